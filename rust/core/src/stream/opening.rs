//! Opens a log directory: alone, to make or recover it, or beside other processes that have it
//! open.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, Deadline, Patience, SystemClock};
use crate::control::{ControlFile, CONTROL_BYTES};
use crate::error::{Error, IoContext, Result};
use crate::fs::{self, File, Fs, Lock, Open, RealFs};
use crate::log::{recovery, Directory};
use crate::sys;
use crate::types::Durability;

use super::format_file::{decode_format, encode_format};
use super::manifests::{for_each_shard, whole_streams};
use super::{removal, Stream, Topology};

/// How long an opener waits for a process that recovers the log.
const OPEN_PATIENCE: Duration = Duration::from_secs(30);
/// How long an opener assumes that the log that it found was left unfinished by an opener that
/// died.
const UNREADY_PATIENCE: Duration = Duration::from_secs(1);
const UNREADY_PAUSE: Duration = Duration::from_millis(2);

/// How a log is opened.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// Whether a directory that is missing or empty becomes a log.
    pub create: bool,
    /// The default durability of streams that this handle creates.
    pub durability: Durability,
    /// Where it is; tests give a simulated one.
    pub fs: Arc<dyn Fs>,
    /// The clock that stamps records.
    pub clock: Arc<dyn Clock>,
    /// Whether a thread of this process syncs what no caller syncs; without it a caller has to call
    /// [`Log::tick`].
    pub housekeeping: bool,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            create: true,
            durability: Durability::Group,
            fs: Arc::new(RealFs),
            clock: Arc::new(SystemClock),
            housekeeping: true,
        }
    }
}

/// Checks that the folder is, or may become, a log; returns its absolute path.
pub(super) fn prepare_folder(path: &Path, options: &OpenOptions) -> Result<PathBuf> {
    let fs = &options.fs;
    let not_a_log = |reason: String| Error::config("log_dir", reason);
    let path = std::path::absolute(path).at(path)?;
    let names = match fs.list(&path) {
        Ok(names) => names,
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
            return Err(not_a_log(format!(
                "{} is a file, or in one, not a folder",
                path.display()
            )));
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if !options.create {
                return Err(not_a_log(format!("{} does not exist", path.display())));
            }
            create_dirs(fs, &path)?;
            Vec::new()
        }
        Err(error) => return Err(Error::io(&path, error)),
    };
    if names.iter().any(|name| name == "FORMAT") {
        return Ok(path);
    }
    // What a creator that was killed can have left behind.
    let ours = [
        "lock",
        "FORMAT.new",
        "control",
        "topology.lock",
        "streams",
        "mappings",
        "workers",
        "metrics",
    ];
    if let Some(foreign) = names.iter().find(|name| !ours.contains(&name.as_str())) {
        let reason = format!(
            "{} is not a log directory: it has `{foreign}` but no FORMAT file",
            path.display()
        );
        return Err(not_a_log(reason));
    }
    if !options.create {
        return Err(not_a_log(format!(
            "{} is not a log directory: it has no FORMAT file",
            path.display()
        )));
    }
    Ok(path)
}

fn create_dirs(fs: &Arc<dyn Fs>, path: &Path) -> Result<()> {
    if fs.exists(path).at(path)? {
        return Ok(());
    }
    let parent = fs::parent(path);
    create_dirs(fs, parent)?;
    fs.create_dir(path).at(path)?;
    fs.sync_dir(parent).at(parent)
}

/// Recovers every shard. A shard that cannot be recovered is closed, the others are not; opening it
/// returns the reason. What a newer version wrote is refused as a whole, before anything is
/// changed.
///
/// In another boot a page that was not visited belongs to no shard from then on. Its stream's
/// manifest is damaged or missing, and may be brought back once page 0 is of this boot.
fn recover_shards(opened: &Opened, same_boot: bool) -> Result<()> {
    let directory = &opened.directory;
    let mut found = Vec::new();
    for_each_shard(directory, |folder, config| {
        match recovery::examine(directory, folder, config, same_boot) {
            Err(refused @ Error::UnsupportedFormat { .. }) => return Err(refused),
            examined => found.push((config.page, examined)),
        }
        Ok(())
    })?;
    if !same_boot {
        let visited = found.iter().map(|(page, _)| *page).collect();
        let file = opened.topology.control_file();
        directory.control().disown_all_but(&visited, &**file);
    }
    for (page, examined) in found {
        if examined.and_then(|found| recovery::recover(directory, &found)).is_err() {
            directory.control().page(page).disown();
        }
    }
    Ok(())
}

/// One opening of a log directory.
pub(super) struct Opening<'a> {
    pub(super) root: PathBuf,
    pub(super) options: &'a OpenOptions,
}

impl Opening<'_> {
    /// Opens it, alone or beside other processes; returns `lock` too, held shared.
    pub(super) fn run(self) -> Result<(Arc<dyn File>, Opened)> {
        let fs = &self.options.fs;
        let magic = fs.magic(&self.root).at(&self.root)?;
        if let Some(name) = sys::network_file_system(magic) {
            let reason =
                format!("{} is on {name}: a log needs a local file system", self.root.display());
            return Err(Error::config("log_dir", reason));
        }
        let lock_path = self.root.join("lock");
        let lock = fs.open(&lock_path, Open::Create).at(&lock_path)?;
        let patience = Patience::of(OPEN_PATIENCE);
        let mut unready: Option<Deadline> = None;
        loop {
            if lock.try_lock(Lock::Exclusive).at(&lock_path)? {
                let opened = self.alone()?;
                crate::log::wait_for(&lock, &lock_path, Lock::Shared, &patience)?;
                // WHY: going from exclusive to shared lets go for a moment, in which another may
                // have been alone and begun a new control file.
                if self.is_current(&opened)? {
                    return Ok((lock, opened));
                }
                continue;
            }
            crate::log::wait_for(&lock, &lock_path, Lock::Shared, &patience)?;
            if let Some(opened) = self.beside_others()? {
                return Ok((lock, opened));
            }
            // WHY: the process that was alone has died in the middle of it, and all that waited for it
            // are in here. They let go, so that one of them can be alone in its place.
            lock.unlock().at(&lock_path)?;
            if unready.get_or_insert_with(|| Deadline::after(UNREADY_PATIENCE)).is_past() {
                return Err(self.foreign_control());
            }
            std::thread::sleep(UNREADY_PAUSE);
        }
    }

    /// Under the exclusive lock: makes what is missing and recovers every shard.
    fn alone(&self) -> Result<Opened> {
        let fs = &self.options.fs;
        let format_path = self.root.join("FORMAT");
        // First of all: what a newer version made is left as it is.
        let is_new = !fs.exists(&format_path).at(&format_path)?;
        let uuid =
            if is_new { sys::random_uuid().at(&format_path)? } else { self.uuid_of(&format_path)? };
        for name in ["streams", "mappings", "workers"] {
            fs.create_dir(&self.root.join(name)).at(&self.root)?;
        }
        // Each time: the process that made them may have died before their names were durable.
        fs.sync_dir(&self.root).at(&self.root)?;
        if is_new {
            fs::replace(&**fs, &format_path, &encode_format(uuid)).at(&format_path)?;
        }
        let control_path = self.root.join("control");
        let file = fs.open(&control_path, Open::Create).at(&control_path)?;
        if file.length().at(&control_path)? != CONTROL_BYTES {
            file.truncate(CONTROL_BYTES).at(&control_path)?;
        }
        let boot_id = fs.boot_id().at(&control_path)?;
        let control = ControlFile::map(&*file, &control_path)?;
        let same_boot = control.is_of(uuid) && control.boot_id() == boot_id;
        let opened = self.opened(uuid, boot_id, control, file)?;
        removal::sweep_all(&opened.directory)?;
        let mut pages = 1;
        for_each_shard(&opened.directory, |_, config| {
            pages = pages.max(config.page + 1);
            Ok(())
        })?;
        opened.topology.control_file().allocate(u64::from(pages) * 4096).at(&control_path)?;
        recover_shards(&opened, same_boot)?;
        opened.directory.control().reuse_retired();
        opened.settle()?;
        // Last, so that a crash before leaves the pages of another boot, which nobody trusts.
        opened.directory.control().initialise(uuid, boot_id);
        Ok(opened)
    }

    fn uuid_of(&self, format_path: &Path) -> Result<[u8; 16]> {
        let bytes = fs::read(&*self.options.fs, format_path).at(format_path)?;
        decode_format(&bytes, format_path)
    }

    /// Under the shared lock: what other processes made; `None` if it is missing, or of another
    /// boot.
    fn beside_others(&self) -> Result<Option<Opened>> {
        let fs = &self.options.fs;
        let (format_path, control_path) = (self.root.join("FORMAT"), self.root.join("control"));
        for path in [&format_path, &control_path] {
            if !fs.exists(path).at(path)? {
                return Ok(None);
            }
        }
        let uuid = self.uuid_of(&format_path)?;
        let file = fs.open(&control_path, Open::Write).at(&control_path)?;
        if file.length().at(&control_path)? != CONTROL_BYTES {
            return Ok(None);
        }
        let boot_id = fs.boot_id().at(&control_path)?;
        let control = ControlFile::map(&*file, &control_path)?;
        if !control.is_of(uuid) || control.boot_id() != boot_id {
            return Ok(None);
        }
        self.opened(uuid, boot_id, control, file).map(Some)
    }

    fn foreign_control(&self) -> Error {
        let path = self.root.join("control");
        let reason = format!(
            "{} is not the control file of this log: close all programs that use the log, then open it again",
            path.display()
        );
        Error::config("log_dir", reason)
    }

    fn opened(
        &self,
        uuid: [u8; 16],
        boot_id: [u8; 16],
        control: ControlFile,
        control_file: Arc<dyn File>,
    ) -> Result<Opened> {
        let (fs, clock) = (Arc::clone(&self.options.fs), Arc::clone(&self.options.clock));
        let directory =
            Arc::new(Directory::new(self.root.clone(), fs, clock, uuid, boot_id, control));
        let topology = Arc::new(Topology::open(&directory, control_file)?);
        Ok(Opened { directory, topology })
    }

    fn is_current(&self, opened: &Opened) -> Result<bool> {
        let path = self.root.join("control");
        let file = self.options.fs.open(&path, Open::Read).at(&path)?;
        let same_file =
            file.identity().at(&path)? == opened.topology.control_file().identity().at(&path)?;
        Ok(same_file && opened.directory.control().is_of(opened.directory.uuid()))
    }
}

/// What an opening has made or found.
pub(super) struct Opened {
    pub(super) directory: Arc<Directory>,
    pub(super) topology: Arc<Topology>,
}

impl Opened {
    /// Finishes the splits and merges that were interrupted.
    fn settle(&self) -> Result<()> {
        let patience = Patience::of(OPEN_PATIENCE);
        for (name, manifest) in whole_streams(&self.directory)? {
            if !manifest.shards.iter().any(|shard| shard.is_pending) {
                continue;
            }
            let stream = Stream::open(&self.directory, &self.topology, &name)?;
            match stream.settle(&self.topology.enter(&patience)?, &patience) {
                // The log can be read all the same; a producer that meets the CLOSE tries again.
                Err(
                    Error::LogFull { .. }
                    | Error::StoragePoisoned { .. }
                    | Error::UnsupportedFormat { .. }
                    | Error::Corruption { .. },
                ) => {}
                other => drop(other?),
            }
        }
        Ok(())
    }
}
