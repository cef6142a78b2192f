//! Examines the folder of metrics: nothing in it is needed by the log.

use super::finding::{Finding, Kind};
use super::Examination;
use crate::counts;
use crate::error::{IoContext, Result};
use crate::fs::Open;

/// Ends of the names of files that a worker writes.
const OTHERS: [&str; 2] = [".history", ".worker"];

/// Looks through all files.
pub(super) fn examine(examination: &mut Examination<'_>) -> Result<()> {
    let folder = counts::folder_of(&examination.root);
    for name in examination.names(&folder)? {
        let path = folder.join(&name);
        if name.ends_with(counts::SUFFIX) {
            let file = match examination.fs().open(&path, Open::Read) {
                // A function may be removed while it is looked at.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                other => other.at(&path)?,
            };
            if counts::is_damaged(&*file).at(&path)? {
                let detail = "no counts of this version";
                examination.tell(Finding::new(Kind::CountsDamaged, path, detail));
            }
        } else if name != "lock" && !OTHERS.iter().any(|suffix| name.ends_with(suffix)) {
            examination.foreign(&path);
        }
    }
    Ok(())
}
