//! The streams of a log: their folders and manifests.

use std::collections::BTreeMap;
use std::path::Path;

use super::finding::{Finding, Kind};
use super::shard::{self, ShardFacts, ShardPlace};
use super::{Examination, StreamFacts};
use crate::error::{Error, IoContext, Result};
use crate::log::{owner_of, Segments};
use crate::stream::{holds_records, Manifest, ShardMeta, REMOVED_MARKER};
use crate::types::ShardId;

/// Names in a shard's folder that are not segments.
const SHARD_FILES: [&str; 5] = ["append.lock", "sync.lock", "state", "failed", "holes"];

impl Examination<'_> {
    pub(super) fn stream(&mut self, name: String) -> Result<()> {
        let folder = self.root.join("streams").join(&name);
        let marker = folder.join(REMOVED_MARKER);
        if self.fs().exists(&marker).at(&marker)? {
            let finding = Finding::new(Kind::StreamRemoved, folder, "it was removed");
            self.tell(finding.of(&name, None));
            return Ok(());
        }
        let (shard_folders, others): (Vec<_>, Vec<_>) =
            self.names(&folder)?.into_iter().partition(|name| shard_of(name).is_some());
        for other in others.iter().filter(|name| *name != "manifest.json") {
            self.foreign(&folder.join(other));
        }
        let manifest = self.manifest(&name, &folder)?;
        let mut shards = BTreeMap::new();
        let first_of_stream = self.findings.len();
        for shard_folder in shard_folders {
            let Some(id) = shard_of(&shard_folder) else { continue };
            let meta = manifest.as_ref().and_then(|m| m.shards.iter().find(|meta| meta.id == id));
            let before = self.findings.len();
            let facts = self.shard(&name, id, &folder.join(&shard_folder), meta)?;
            if manifest.is_some() && meta.is_none() {
                // Nothing reads it: what it lacks is not damage.
                self.findings.truncate(before);
                let detail = format!("{} record batches", facts.batches);
                let path = folder.join(&shard_folder);
                self.tell(Finding::new(Kind::ShardUnknown, path, detail).of(&name, Some(id)));
            }
            if meta.is_some_and(|meta| meta.is_pending) && self.is_exclusive {
                let path = folder.join("manifest.json");
                let finding = Finding::new(Kind::ShardPending, path, "its parents were not closed");
                self.tell(finding.of(&name, Some(id)));
            }
            shards.insert(id, facts);
        }
        if let Some(manifest) = &manifest {
            self.checked.streams += 1;
            for meta in manifest.shards.iter().filter(|meta| !shards.contains_key(&meta.id)) {
                let path = folder.join(meta.id.to_string());
                let finding = Finding::new(Kind::ShardMissing, path, "the folder is missing");
                self.tell(finding.of(&name, Some(meta.id)));
            }
        } else if !self.fs().exists(&folder.join("manifest.json")).at(&folder)? {
            // What others are writing was not judged, but it is there.
            let has_batches = shards.values().any(|facts| facts.batches > 0)
                || !self.is_exclusive && holds_records(self.fs(), &folder)?;
            if !has_batches {
                self.findings.truncate(first_of_stream);
                shards.clear();
            }
            let kind = match has_batches {
                // Others may have begun to remove the stream since it was looked at.
                _ if self.fs().exists(&marker).at(&marker)? => Kind::StreamRemoved,
                true => Kind::ManifestMissing,
                false => Kind::StreamUnfinished,
            };
            let finding = Finding::new(kind, &folder, "there is no manifest.json");
            self.tell(finding.of(&name, None));
        }
        self.streams.push(StreamFacts { name, folder, manifest, shards });
        Ok(())
    }

    fn manifest(&mut self, name: &str, folder: &Path) -> Result<Option<Manifest>> {
        let path = folder.join("manifest.json");
        match Manifest::load(self.fs(), &path) {
            Ok(manifest) => Ok(Some(manifest)),
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                Ok(None)
            }
            Err(Error::Corruption { reason, .. }) => {
                let finding = Finding::new(Kind::ManifestDamaged, path, reason);
                self.tell(finding.of(name, None));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Reports shards whose page belongs to an earlier shard.
    pub(super) fn shared_pages(&mut self) {
        // Others may be changing manifests: what was read earlier and what later do not go together.
        if !self.is_exclusive {
            return;
        }
        let mut owners = BTreeMap::new();
        let mut shared = Vec::new();
        for stream in &self.streams {
            for meta in stream.manifest.iter().flat_map(|manifest| &manifest.shards) {
                let (page, id) = (meta.page, meta.id);
                let (first, of) = *owners.entry(page).or_insert((&stream.name, id));
                if (first, of) != (&stream.name, id) {
                    let path = stream.folder.join("manifest.json");
                    let detail = format!("{id} has page {page}, which is that of {first}/{of}");
                    let finding = Finding::new(Kind::PageShared, path, detail);
                    shared.push(finding.of(&stream.name, Some(id)));
                }
            }
        }
        self.findings.extend(shared);
    }

    fn shard(
        &mut self,
        stream: &str,
        id: ShardId,
        folder: &Path,
        meta: Option<&ShardMeta>,
    ) -> Result<ShardFacts> {
        for name in self.names(folder)? {
            let is_ours = SHARD_FILES.contains(&name.as_str()) || Segments::is_name(&name);
            if !is_ours {
                self.foreign(&folder.join(name));
            }
        }
        let owner = owner_of(stream, id);
        let page = match meta {
            Some(meta) => self.page(meta.page, owner)?,
            None => self.page_of(owner)?,
        };
        self.checked.shards += 1;
        let place = ShardPlace { stream, id, folder: folder.to_owned(), page };
        shard::examine(self, &place)
    }
}

fn shard_of(name: &str) -> Option<ShardId> {
    name.starts_with("shardId-").then(|| ShardId::parse(name)).flatten()
}
