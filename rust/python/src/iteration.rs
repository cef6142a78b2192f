//! Iterators over records: `iter(records)`, and the one that notes the running record on the board.

use std::sync::Arc;

use pyo3::prelude::*;
use streamfn_core::lane::selection::{Picked, Selection};
use streamfn_core::lane::Board;
use streamfn_core::sys::fork_generation;
use streamfn_core::DecodedBatch;

use crate::records::Record;

/// Walks over records without looking each one up.
struct Walk {
    pieces: Vec<(Arc<DecodedBatch>, Picked)>,
    piece: usize,
    at: usize,
}

impl Walk {
    fn new(selection: &Selection) -> Self {
        let pieces =
            selection.pieces().map(|(batch, picked)| (Arc::clone(batch), picked)).collect();
        Self { pieces, piece: 0, at: 0 }
    }

    fn next(&mut self) -> Option<(&Arc<DecodedBatch>, u32)> {
        while let Some((_, picked)) = self.pieces.get(self.piece) {
            if let Some(index) = picked.get(self.at) {
                self.at += 1;
                return self.pieces.get(self.piece).map(|(batch, _)| (batch, index));
            }
            self.piece += 1;
            self.at = 0;
        }
        None
    }
}

/// The last two records that an iterator handed out.
///
/// In a loop, when the next record is requested, the loop's variable still has the last one, but
/// the one before it has no other owner any more. So that object becomes the next record, as `zip`
/// reuses its tuple.
///
/// WHY: a record takes 17 ns this way, 50 if an object is made for each.
#[derive(Default)]
struct Handed {
    last: Option<Py<Record>>,
    before: Option<Py<Record>>,
}

impl Handed {
    fn hand<'py>(
        &mut self,
        py: Python<'py>,
        batch: &Arc<DecodedBatch>,
        index: u32,
    ) -> PyResult<Bound<'py, Record>> {
        std::mem::swap(&mut self.last, &mut self.before);
        if let Some(record) = self.last.as_ref().map(|record| record.bind(py)) {
            if is_only_ours(record) && record.get().become_at(batch, index) {
                return Ok(record.clone());
            }
        }
        let record = Bound::new(py, Record::at(batch, index))?;
        self.last = Some(record.clone().unbind());
        Ok(record)
    }
}

#[expect(deprecated, reason = "what is there instead is `unsafe`")]
fn is_only_ours(record: &Bound<'_, Record>) -> bool {
    record.get_refcnt() == 1
}

/// `iter(records)`.
#[pyclass(module = "streamfn._core")]
pub(crate) struct RecordIterator {
    walk: Walk,
    handed: Handed,
}

impl RecordIterator {
    pub(crate) fn new(selection: &Selection) -> Self {
        Self { walk: Walk::new(selection), handed: Handed::default() }
    }
}

#[pymethods]
impl RecordIterator {
    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, Record>>> {
        let Some((batch, index)) = self.walk.next() else { return Ok(None) };
        self.handed.hand(py, batch, index).map(Some)
    }
}

/// `records.running(board, cell)`: notes on the board which record is running.
#[pyclass(module = "streamfn._core")]
pub(crate) struct RunningIterator {
    walk: Walk,
    handed: Handed,
    board: Arc<Board>,
    cell: usize,
    fork_generation: u64,
}

impl RunningIterator {
    pub(crate) fn new(selection: &Selection, board: Arc<Board>, cell: usize) -> Self {
        let fork_generation = fork_generation();
        let (walk, handed) = (Walk::new(selection), Handed::default());
        Self { walk, handed, board, cell, fork_generation }
    }
}

#[pymethods]
impl RunningIterator {
    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, Record>>> {
        if self.fork_generation != fork_generation() {
            return Ok(None); // a child that a function forked: the records and the board are not its own
        }
        let Some((batch, index)) = self.walk.next() else { return Ok(None) };
        self.board.run(self.cell, batch.base_seq() + u64::from(index));
        self.handed.hand(py, batch, index).map(Some)
    }
}
