//! Repairs what can be derived. The repair has the log to itself. Every original is in
//! `quarantine/` before anything in its place changes, and after each step the next run can
//! continue.

mod mappings;
mod shard;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::finding::{Finding, Kind};
use super::lanes_bytes::furthest;
use super::shard::ShardFacts;
use super::{examine, Examination, Options, Progress, Report, StreamFacts, TopLock};
use crate::error::{IoContext, Result};
use crate::fs::{self, Fs, Open};
use crate::stream::{
    encode_format, Log, Manifest, OpenOptions, Retention, ShardMeta, StreamConfig,
};
use crate::sys;
use crate::types::{Compression, Durability, SequenceNumber, ShardId, SHARDS_MAX};

use shard::ShardRepair;

const COPY_BYTES: usize = 1024 * 1024;
/// Repairs what can be derived from the rest of a log, runs the recovery of every opening, and
/// examines the log again.
///
/// Findings that were repaired say so. Lost records stay lost: a repair records the loss, so that
/// the next examination reports it as known.
///
/// # Errors
/// As [`examine`]; [`Error::LockTimeout`] naming who has the log open.
///
/// # Durability
/// Durable when it returns; a crash at any step leaves a log on which the next run continues.
pub fn repair(root: &Path, options: &Options, progress: Progress<'_>) -> Result<Report> {
    let root = std::path::absolute(root).at(root)?;
    let lock = TopLock::take(&options.fs, &root)?;
    let mut examination = Examination::new(&root, options, true, &mut *progress);
    examination.run()?;
    let Examination { findings, streams, uuid, checked, .. } = examination;
    let mut repair =
        Repair { root: &root, options, findings, uuid, lanes: BTreeMap::new(), has_changed: false };
    repair.lanes = furthest(&options.fs, &root)?;
    repair.run(&streams)?;
    let mut findings = repair.findings;
    drop(lock);
    let opening = OpenOptions {
        create: false,
        fs: Arc::clone(&options.fs),
        clock: Arc::clone(&options.clock),
        housekeeping: false,
        ..OpenOptions::default()
    };
    // What keeps it from opening is among the findings of the second examination.
    if let Ok(log) = Log::open(&root, &opening) {
        log.close()?;
    }
    let again = examine(&root, options, progress)?;
    for finding in again.findings {
        if !findings.iter().any(|known| known.is_same(&finding)) {
            findings.push(finding);
        }
    }
    Ok(Report { findings, checked, is_exclusive: true })
}

struct Repair<'r> {
    root: &'r Path,
    options: &'r Options,
    findings: Vec<Finding>,
    uuid: Option<[u8; 16]>,
    /// By stream and shard: the highest checkpoint and the highest segment any lane names.
    lanes: BTreeMap<(String, ShardId), (SequenceNumber, u32)>,
    has_changed: bool,
}

impl Repair<'_> {
    pub(super) fn fs(&self) -> &Arc<dyn Fs> {
        &self.options.fs
    }

    fn run(&mut self, streams: &[StreamFacts]) -> Result<()> {
        let uuid = self.format(streams)?;
        let mut pages: BTreeSet<u32> = streams
            .iter()
            .filter_map(|stream| stream.manifest.as_ref())
            .flat_map(|manifest| manifest.shards.iter().map(|shard| shard.page))
            .collect();
        for stream in streams {
            let changed = match &stream.manifest {
                Some(manifest) => self.own_pages(stream, manifest, &mut pages)?,
                None => self.manifest(stream, &mut pages)?,
            };
            let Some(manifest) = changed.as_ref().or(stream.manifest.as_ref()) else { continue };
            for meta in &manifest.shards {
                let none = ShardFacts::default();
                let facts = stream.shards.get(&meta.id).unwrap_or(&none);
                let folder = stream.folder.join(meta.id.to_string());
                ShardRepair { repair: self, stream: &stream.name, folder, meta, facts, uuid }
                    .run()?;
            }
        }
        mappings::repair(self)?;
        self.control()
    }

    /// Notes what was done about findings.
    pub(super) fn mark(&mut self, is_it: impl Fn(&Finding) -> bool, done: &str) {
        for finding in self.findings.iter_mut().filter(|finding| is_it(finding)) {
            finding.repaired = Some(done.to_owned());
            self.has_changed = true;
        }
    }

    pub(super) fn has(&self, kind: Kind, path: &Path) -> bool {
        self.findings.iter().any(|finding| finding.kind == kind && finding.path == path)
    }

    /// The files that findings of a kind are about.
    pub(super) fn paths_of(&self, kind: Kind) -> Vec<PathBuf> {
        let found = self.findings.iter().filter(|finding| finding.kind == kind);
        found.map(|finding| finding.path.clone()).collect()
    }

    /// A name in `quarantine/` that is not taken; the folder is there when it returns.
    fn quarantine_name(&self, path: &Path) -> Result<PathBuf> {
        let folder = self.root.join("quarantine");
        self.fs().create_dir(&folder).at(&folder)?;
        self.fs().sync_dir(self.root).at(self.root)?;
        let place = path.strip_prefix(self.root).unwrap_or(path).display().to_string();
        let token = sys::hex(&sys::random_uuid().at(&folder)?);
        let token = token.get(..8).unwrap_or_default();
        Ok(folder.join(format!("{}.{token}.fsck", place.replace('/', "."))))
    }

    /// Copies a file, from a byte on, to `quarantine/`; does nothing if there is nothing to copy.
    pub(super) fn keep(&self, path: &Path, from: u64) -> Result<()> {
        let file = match self.fs().open(path, Open::Read) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => other.at(path)?,
        };
        let length = file.length().at(path)?;
        if length <= from {
            return Ok(());
        }
        let copy_path = self.quarantine_name(path)?;
        let copy = self.fs().open(&copy_path, Open::CreateNew).at(&copy_path)?;
        let mut bytes = vec![0; COPY_BYTES];
        let mut at = from;
        loop {
            let got = file.read_at(&mut bytes, at).at(path)?;
            let Some(piece) = bytes.get(..got).filter(|piece| !piece.is_empty()) else { break };
            // Zeros need no place: the control file is nearly nothing else.
            if piece.iter().any(|byte| *byte != 0) {
                copy.write_at(&[piece], at - from).at(&copy_path)?;
            }
            at += got as u64;
        }
        copy.sync_data().at(&copy_path)?;
        let folder = fs::parent(&copy_path);
        self.fs().sync_dir(folder).at(folder)
    }

    /// Moves a file to `quarantine/`.
    fn put_aside(&self, path: &Path) -> Result<()> {
        let to = self.quarantine_name(path)?;
        self.fs().rename(path, &to).at(path)?;
        for folder in [fs::parent(&to), fs::parent(path)] {
            self.fs().sync_dir(folder).at(folder)?;
        }
        Ok(())
    }

    /// Keeps the original of a small file and replaces it.
    pub(super) fn replace(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        self.keep(path, 0)?;
        fs::replace(&**self.fs(), path, bytes).at(path)
    }

    /// The identity of the log: from `FORMAT`, else what most segments say, else a new one.
    fn format(&mut self, streams: &[StreamFacts]) -> Result<[u8; 16]> {
        if let Some(uuid) = self.uuid {
            return Ok(uuid);
        }
        let mut votes: BTreeMap<[u8; 16], usize> = BTreeMap::new();
        let segments = streams.iter().flat_map(|stream| stream.shards.values());
        let segments = segments.flat_map(|facts| &facts.segments);
        for header in segments.filter_map(|segment| segment.header.as_ref()) {
            *votes.entry(header.log_uuid).or_default() += 1;
        }
        let path = self.root.join("FORMAT");
        let uuid = match votes.into_iter().max_by_key(|(_, count)| *count) {
            Some((uuid, _)) => uuid,
            None => sys::random_uuid().at(&path)?,
        };
        self.replace(&path, &encode_format(uuid))?;
        self.mark(|finding| finding.kind == Kind::FormatDamaged, "written anew");
        Ok(uuid)
    }

    /// Gives a page of its own to each shard of a stream that has the page of another shard; `None`
    /// if there are none.
    ///
    /// The old page describes only one of them, and all pages are made anew at the end.
    fn own_pages(
        &mut self,
        stream: &StreamFacts,
        manifest: &Manifest,
        pages: &mut BTreeSet<u32>,
    ) -> Result<Option<Manifest>> {
        let is_it = |finding: &Finding| {
            finding.kind == Kind::PageShared && finding.stream.as_deref() == Some(&stream.name)
        };
        let found = self.findings.iter().filter(|finding| is_it(finding));
        let shared: BTreeSet<ShardId> = found.filter_map(|finding| finding.shard).collect();
        if shared.is_empty() {
            return Ok(None);
        }
        let mut manifest = manifest.clone();
        for meta in manifest.shards.iter_mut().filter(|meta| shared.contains(&meta.id)) {
            let Some(page) = take_page(pages) else { return Ok(None) };
            meta.page = page;
        }
        let path = stream.folder.join("manifest.json");
        self.keep(&path, 0)?;
        manifest.store(self.fs(), &path)?;
        self.mark(is_it, "the shard has a page of its own");
        Ok(Some(manifest))
    }

    /// Writes a manifest from what the segment headers say; `None` if they do not say enough.
    fn manifest(
        &mut self,
        stream: &StreamFacts,
        pages: &mut BTreeSet<u32>,
    ) -> Result<Option<Manifest>> {
        let path = stream.folder.join("manifest.json");
        let is_it = |finding: &Finding| {
            matches!(finding.kind, Kind::ManifestDamaged | Kind::ManifestMissing)
                && finding.stream.as_deref() == Some(&stream.name)
        };
        if !self.findings.iter().any(is_it) {
            return Ok(None);
        }
        let mut shards = Vec::new();
        for (id, facts) in &stream.shards {
            let header = facts.segments.iter().find_map(|segment| segment.header.as_ref());
            let Some(header) = header else { return Ok(None) };
            // A child whose parents all go on belongs to a split or merge that was given up; if one
            // of them is closed, the next opening finishes it.
            let parents: Vec<bool> = header
                .parents
                .iter()
                .filter_map(|id| Some(stream.shards.get(id)?.is_closed()))
                .collect();
            if !parents.is_empty() && !parents.contains(&true) {
                continue;
            }
            let Some(page) = take_page(pages) else { return Ok(None) };
            shards.push(ShardMeta {
                id: *id,
                page,
                hash_range: header.hash_range,
                parents: header.parents.clone(),
                is_open: !facts.is_closed(),
                is_pending: parents.contains(&false),
            });
        }
        if shards.is_empty() {
            return Ok(None);
        }
        let has_zstd = stream.shards.values().any(|facts| facts.has_zstd);
        let created = stream.shards.values().flat_map(|facts| &facts.segments);
        let created = created.filter_map(|segment| Some(segment.header.as_ref()?.created)).min();
        let manifest = Manifest {
            config: StreamConfig {
                shards: u32::try_from(shards.len()).unwrap_or(u32::MAX),
                durability: Durability::Group,
                retention: Retention::default(),
                is_internal: stream.name.contains('.'),
                compression: if has_zstd { Compression::Zstd } else { Compression::None },
                ..StreamConfig::default()
            },
            created: created.unwrap_or(0),
            shards,
        };
        self.keep(&path, 0)?;
        manifest.store(self.fs(), &path)?;
        let folder = fs::parent(&stream.folder);
        self.fs().sync_dir(folder).at(folder)?;
        self.mark(is_it, "written anew from the segment headers; durability `group`, no retention");
        Ok(Some(manifest))
    }

    /// After any change the pages are made anew, because they may describe the previous state.
    fn control(&mut self) -> Result<()> {
        let path = self.root.join("control");
        let is_it = |finding: &Finding| finding.kind == Kind::ControlDamaged;
        let is_damaged = self.findings.iter().any(is_it);
        if !self.has_changed && !is_damaged || !self.fs().exists(&path).at(&path)? {
            return Ok(());
        }
        if is_damaged {
            self.keep(&path, 0)?;
        }
        let file = self.fs().open(&path, Open::Write).at(&path)?;
        file.truncate(0).at(&path)?;
        file.sync_data().at(&path)?;
        self.mark(is_it, "made anew");
        Ok(())
    }
}

/// A page without a shard, which a shard gets now; `None` if there is none left.
fn take_page(pages: &mut BTreeSet<u32>) -> Option<u32> {
    let page = (1..=SHARDS_MAX).find(|page| !pages.contains(page))?;
    pages.insert(page);
    Some(page)
}
