//! What an examination finds, and what each kind of finding means.

use std::path::PathBuf;

use crate::types::{SequenceNumber, ShardId};

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing is broken, or the next opening puts it right by itself.
    Note,
    /// Bytes are not what was written, or are missing.
    Damage,
}

impl Severity {
    /// The word that people and programs read.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Damage => "damage",
        }
    }
}

/// Defines [`Kind`] as one table: variant, code, severity, what it means, what to do.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident $code:literal $severity:ident $meaning:literal $action:literal;)*) => {
        /// A kind of finding.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Kind { $($(#[$doc])* $kind,)* }

        impl Kind {
            /// All kinds, in the order in which they are documented.
            pub const ALL: &'static [Self] = &[$(Self::$kind,)*];

            /// Its name in the output; it does not change.
            pub fn code(self) -> &'static str {
                match self { $(Self::$kind => $code,)* }
            }

            /// How much it matters.
            pub fn severity(self) -> Severity {
                match self { $(Self::$kind => Severity::$severity,)* }
            }

            /// What it means for the records and the functions.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$kind => $meaning,)* }
            }

            /// What to do about it; empty: nothing.
            pub fn action(self) -> &'static str {
                match self { $(Self::$kind => $action,)* }
            }
        }
    };
}

kinds! {
    /// The `FORMAT` file.
    FormatDamaged "format-damaged" Damage
        "the log cannot be opened; no record is touched"
        "`--repair` writes it anew, with the identity that the segment files name";
    /// The control file.
    ControlDamaged "control-damaged" Damage
        "it is memory that processes share and can be made anew; no record is touched"
        "`--repair`, or opening the log while nobody else has it open, makes it anew";
    /// `manifest.json`.
    ManifestDamaged "manifest-damaged" Damage
        "the stream cannot be opened, nor a worker with a function that reads it run; its records are whole, and other streams can be used"
        "`--repair` writes it anew from the segment headers; durability becomes `group`, and retention ends";
    /// A stream's folder without a manifest, with batches in it.
    ManifestMissing "manifest-missing" Damage
        "the stream is not listed any more; its records are whole"
        "`--repair` writes the manifest anew from the segment headers; durability becomes `group`, and retention ends";
    /// Two shards with one page of the control file.
    PageShared "page-shared" Damage
        "of shards with one page of the control file only one can be opened; the records of all are whole"
        "if a stream's folder was copied, move the copy away; else `--repair` gives each shard a page of its own";
    /// A stream's folder without a manifest and without a batch.
    StreamUnfinished "stream-unfinished" Note
        "a creation that did not finish; there is no such stream"
        "";
    /// The rest of a stream that was removed.
    StreamRemoved "stream-removed" Note
        "the stream was removed, and something is left of its files"
        "the next opening takes the rest away";
    /// A shard of the manifest has no folder.
    ShardMissing "shard-missing" Damage
        "all its records are gone; the stream cannot be read, nor a worker with a function that reads it run; its other shards take records"
        "bring the folder back from a backup; `--repair` makes an empty shard that goes on above every number known";
    /// A shard's folder that the manifest does not name.
    ShardUnknown "shard-unknown" Note
        "nothing reads it; a split or merge that was given up leaves such a folder"
        "look at it, then move it away";
    /// The child of a split or merge that stopped in the middle.
    ShardPending "shard-pending" Note
        "a split or merge stopped in the middle; nothing was put into this shard yet"
        "the next opening finishes or drops it";
    /// Both slots of `state`, or the file.
    StateDamaged "state-damaged" Damage
        "the shard takes no records, and the stream cannot be read, nor a worker with a function that reads it run; the records are whole, and its other shards take more"
        "`--repair` works it out from the segments; numbers go on far above every one that may have been used";
    /// One slot of `state`.
    StateSlotDamaged "state-slot-damaged" Damage
        "the other slot counts; no record is touched"
        "`--repair` writes both slots anew";
    /// A valid `state` that does not belong to these segments.
    StateMisplaced "state-does-not-fit" Damage
        "recovery would begin at a wrong place, or numbers would be used twice"
        "`--repair` works it out from the segments";
    /// A segment header.
    SegmentHeaderDamaged "segment-header-damaged" Damage
        "it is there for tools; all record batches can be read"
        "`--repair` writes it anew from the manifest and its neighbours";
    /// The sparse index at the end of a closed segment.
    IndexDamaged "index-damaged" Note
        "places in the segment are found by reading it; no record is touched"
        "the housekeeping of the next opening makes it anew";
    /// A segment header of another log, shard or place.
    SegmentForeign "segment-foreign" Damage
        "the file was made elsewhere, or renamed; what of its batches does not follow cannot be read"
        "put the right file back; nothing changes it";
    /// Segment files are gone.
    SegmentMissing "segment-missing" Damage
        "the records in it are lost; those before and after can be read"
        "bring the file back from a backup; functions with on_corruption=\"skip\" pass the place";
    /// A segment file that begins below the end of the one before it.
    SegmentOverlaps "segment-overlaps" Damage
        "its numbers were used before; readers stop where it begins"
        "look where it comes from, then move it away";
    /// An empty segment file that a writer left behind.
    SegmentLeft "segment-left" Note
        "a writer died while it began a segment; the next one uses the file"
        "";
    /// Bytes between whole record batches.
    BatchDamaged "batch-damaged" Damage
        "these records are lost; all before and after them can be read, and nothing is cut"
        "bring the file back from a backup; functions with on_corruption=\"skip\" pass the place; `--repair` takes note of the loss";
    /// The end of a segment that has a successor, or of what was synced.
    EndMissing "end-missing" Damage
        "these records are lost: the file ends before the place up to which it was written"
        "bring the file back from a backup; functions with on_corruption=\"skip\" pass the place; `--repair` takes note of the loss";
    /// A hole that recovery recorded and that this examination does not find by itself.
    HoleKnown "hole-known" Damage
        "these records are lost: recovery found them damaged; all before and after them can be read"
        "bring the file back from a backup; functions with on_corruption=\"skip\" pass the place; `--repair` takes note of the loss";
    /// A hole that a person took note of.
    HoleAccepted "hole-accepted" Note
        "these records are lost, and `--repair` took note of it"
        "functions with on_corruption=\"skip\" pass the place";
    /// The list of holes.
    HolesDamaged "holes-damaged" Damage
        "the list tells people what is lost; no record is touched"
        "`--repair` writes it anew";
    /// What an unclean stop left behind the last batch.
    TornTail "torn-tail" Note
        "writing stopped in the middle of a batch that nobody was told is there"
        "the next opening copies it to quarantine/ and cuts it off";
    /// A flush failed.
    ShardFailed "shard-failed" Damage
        "a flush of the disk failed: the shard takes no records; reading goes on"
        "look at the disk first (`dmesg`); `--repair` cuts the shard where it was last durable, keeps the rest in quarantine/, and puts it to work again";
    /// Both slots of a mapping's record.
    MappingDamaged "mapping-damaged" Damage
        "its function is not called; its positions are whole"
        "`--repair` writes it anew from the lanes files";
    /// The bytes behind the record of a replay.
    ReplayDamaged "replay-damaged" Damage
        "nobody knows where the replay ends, so it is not run; its function is as it was"
        "`streamfn fn rm` with the name of the replay, then ask for it again";
    /// A mapping without a record.
    MappingRemoved "mapping-removed" Note
        "the function, or a replay, was removed or not wholly made, and something is left of its files"
        "the next that makes or removes a function takes it away";
    /// One slot of a mapping's record.
    MappingSlotDamaged "mapping-slot-damaged" Damage
        "the other slot counts"
        "`--repair` writes both slots anew";
    /// Both heads of a lanes file.
    LanesDamaged "lanes-damaged" Damage
        "the function is not called for this shard; its positions are whole"
        "`--repair` works out the number of lanes from their checkpoints";
    /// No lanes file for a shard that a function reads, or no folder for all of its stream.
    LanesMissing "lanes-missing" Damage
        "nobody knows how far the function had come there; the next worker begins at the first record that is kept, so that nothing is skipped, and calls it again with what was done"
        "bring the file back from a backup before a worker starts; or `streamfn fn seek` sets where the function reads on";
    /// One head of a lanes file.
    LanesSlotDamaged "lanes-slot-damaged" Damage
        "the other head counts"
        "`--repair` writes both anew";
    /// Both checkpoint slots of a lane.
    CheckpointDamaged "checkpoint-damaged" Damage
        "nobody knows how far the function had come in this lane; it is not called for it, and never started from a guess"
        "`streamfn fn seek` sets where the function reads on";
    /// One checkpoint slot of a lane.
    CheckpointSlotDamaged "checkpoint-slot-damaged" Damage
        "the other slot counts: at most what was done since it was written comes again"
        "`--repair` writes both slots anew";
    /// Both window files of a lane with tumbling windows.
    WindowsDamaged "windows-damaged" Damage
        "the function does not run on this shard: nobody knows how far it was, nor the state of its window"
        "`streamfn fn seek` gives the lane a position again; its window begins anew";
    /// One of the two window files.
    WindowFileDamaged "window-file-damaged" Note
        "the other file counts; a runner that is killed while it writes leaves this"
        "";
    /// A checkpoint above the end of its shard.
    CheckpointBeyond "checkpoint-beyond-end" Note
        "harmless: numbers are never used twice, so what comes next lies above it"
        "";
    /// An in-flight slot.
    InFlightDamaged "in-flight-damaged" Note
        "it counts for nothing: the batch that was in flight is called again, its attempts start over"
        "";
    /// A file or folder that is none of ours.
    ForeignFile "foreign-file" Note
        "nothing reads it, and nothing removes it"
        "";
    /// Half of a replacement that did not finish.
    Leftover "leftover" Note
        "a replacement of a file that did not finish; the old file counts"
        "";
    /// Counts of a mapping that cannot be read.
    CountsDamaged "counts-damaged" Note
        "the metrics of this function begin again at zero; no record and no position is touched"
        "the next worker makes the file anew";
    /// What recovery or an earlier repair put aside.
    Quarantined "quarantined" Note
        "bytes that were put aside; nothing reads them"
        "keep it until you know what it was";
    /// Others have the log open.
    InUse "in-use" Note
        "what others are writing now was not judged: ends of shards, control file, batches in flight"
        "close all programs that use the log for a whole examination";
}

/// One thing that an examination found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What kind of thing.
    pub kind: Kind,
    /// The file or folder.
    pub path: PathBuf,
    /// The byte in it, where there is one.
    pub position: Option<u64>,
    /// First and last sequence number concerned, where there are any.
    pub sequences: Option<(SequenceNumber, SequenceNumber)>,
    /// The stream, if it is in one.
    pub stream: Option<String>,
    /// The shard, if it is in one.
    pub shard: Option<ShardId>,
    /// What it is, in this case.
    pub detail: String,
    /// What a repair did about it.
    pub repaired: Option<String>,
}

impl Finding {
    /// A finding without a place in the file.
    pub(super) fn new(kind: Kind, path: impl Into<PathBuf>, detail: impl Into<String>) -> Self {
        let (path, detail) = (path.into(), detail.into());
        Self {
            kind,
            path,
            position: None,
            sequences: None,
            stream: None,
            shard: None,
            detail,
            repaired: None,
        }
    }

    /// Whether it is damage that no repair has fixed, or that lost records.
    pub fn is_open(&self) -> bool {
        let is_repaired = self.repaired.is_some() && self.sequences.is_none();
        self.kind.severity() == Severity::Damage && !is_repaired
    }

    /// Whether two examinations report the same thing, known or not yet known.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let kind = |finding: &Self| match finding.kind {
            Kind::HoleAccepted => None,
            kind => Some(kind),
        };
        let is_kind = kind(self) == kind(other) || kind(self).is_none() || kind(other).is_none();
        is_kind
            && self.path == other.path
            && (self.position, self.sequences) == (other.position, other.sequences)
    }

    pub(super) fn at(self, position: u64) -> Self {
        Self { position: Some(position), ..self }
    }

    /// The numbers from `first` up to, not with, `end`; none if there are none.
    pub(super) fn numbers(self, first: SequenceNumber, end: SequenceNumber) -> Self {
        Self { sequences: (first < end).then(|| (first, end - 1)), ..self }
    }

    pub(super) fn of(self, stream: &str, shard: Option<ShardId>) -> Self {
        Self { stream: Some(stream.to_owned()), shard, ..self }
    }
}
