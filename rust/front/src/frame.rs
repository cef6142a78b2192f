//! Frames: docs/front.md, "Frames".

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// Longest frame, without its length field.
pub const FRAME_BYTES_MAX: usize = 8 << 20;
/// Bytes of kind and length of the header.
const HEAD: usize = 5;
/// So much is reserved for a frame before its bytes have arrived; more only as they come.
const RESERVED_MAX: usize = 64 << 10;

/// What a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// The front greets.
    Hello = 1,
    /// The peer is a function runner.
    Runner = 2,
    /// A call.
    Call = 3,
    /// The answer of a call.
    Result = 4,
    /// A call that was not made.
    Refused = 5,
    /// Is somebody there?
    Ping = 6,
    /// The answer of a ping.
    Pong = 7,
    /// A runner shall finish and exit.
    Leave = 8,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        [
            Self::Hello,
            Self::Runner,
            Self::Call,
            Self::Result,
            Self::Refused,
            Self::Ping,
            Self::Pong,
            Self::Leave,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
}

/// A frame as it was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it says.
    pub kind: Kind,
    data: Vec<u8>,
    body_at: usize,
}

impl Frame {
    /// The header, a JSON object.
    pub fn header(&self) -> &[u8] {
        self.data.get(HEAD..self.body_at).unwrap_or_default()
    }

    /// The payload.
    pub fn body(&self) -> &[u8] {
        self.data.get(self.body_at..).unwrap_or_default()
    }

    /// Reads the bytes after the length field.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] if they are no frame.
    pub fn of(data: Vec<u8>) -> io::Result<Self> {
        let Some((head, _)) = data.split_first_chunk::<HEAD>() else {
            return Err(bad("it is too short"));
        };
        let [kind, length @ ..] = *head;
        let kind = Kind::of(kind).ok_or_else(|| bad("it is of an unknown kind"))?;
        let body_at = usize::try_from(u32::from_le_bytes(length))
            .ok()
            .and_then(|length| length.checked_add(HEAD))
            .filter(|end| *end <= data.len())
            .ok_or_else(|| bad("its header is longer than it"))?;
        Ok(Self { kind, data, body_at })
    }
}

/// Reads a frame; `None`: the peer has closed, between two frames.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] if what comes is no frame, and what reading may raise.
pub async fn read<R: AsyncRead + Unpin>(reader: &mut R) -> io::Result<Option<Frame>> {
    let length = match reader.read_u32_le().await {
        Ok(length) => usize::try_from(length).unwrap_or(usize::MAX),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    if !(HEAD..=FRAME_BYTES_MAX).contains(&length) {
        return Err(bad("it is too short or too long"));
    }
    let mut data = Vec::with_capacity(length.min(RESERVED_MAX));
    let most = u64::try_from(length).unwrap_or(u64::MAX);
    if reader.take(most).read_to_end(&mut data).await? < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Frame::of(data).map(Some)
}

/// The bytes of a frame that come before its body.
pub fn start(kind: Kind, header: &[u8], body_bytes: usize) -> Vec<u8> {
    let header_bytes = u32::try_from(header.len()).unwrap_or(u32::MAX);
    let length = u32::try_from(HEAD + header.len() + body_bytes).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(4 + HEAD + header.len());
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.push(kind as u8);
    bytes.extend_from_slice(&header_bytes.to_le_bytes());
    bytes.extend_from_slice(header);
    bytes
}

fn bad(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("no frame: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `read` makes of some bytes.
    fn read_from(bytes: &[u8]) -> io::Result<Option<Frame>> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut reader = bytes;
        runtime.block_on(read(&mut reader))
    }

    fn frame(kind: Kind, header: &[u8], body: &[u8]) -> Vec<u8> {
        [start(kind, header, body.len()), body.to_vec()].concat()
    }

    #[test]
    fn a_frame_comes_back_as_it_was() {
        for (header, body) in [(&b"{}"[..], &b""[..]), (b"", b""), (br#"{"id":1}"#, b"[1, 2]")] {
            let got = read_from(&frame(Kind::Call, header, body)).unwrap().unwrap();
            assert_eq!((Kind::Call, header, body), (got.kind, got.header(), got.body()));
        }
        assert_eq!(None, read_from(b"").unwrap(), "the end between two frames");
    }

    #[test]
    fn a_frame_has_at_most_eight_mebibytes() {
        let body = vec![b'0'; FRAME_BYTES_MAX - HEAD];
        let whole = frame(Kind::Result, b"", &body);
        assert_eq!(body, read_from(&whole).unwrap().unwrap().body());

        let longer = u32::try_from(FRAME_BYTES_MAX + 1).unwrap().to_le_bytes();
        let error = read_from(&[&longer[..], &whole[4..], b"0"].concat()).unwrap_err();
        assert_eq!(io::ErrorKind::InvalidData, error.kind());
    }

    #[test]
    fn a_frame_that_is_cut_anywhere_is_an_error() {
        let whole = frame(Kind::Call, br#"{"id":1}"#, b"payload");
        for length in 4..whole.len() {
            let error = read_from(&whole[..length]).unwrap_err();
            assert_eq!(io::ErrorKind::UnexpectedEof, error.kind(), "{length} bytes");
        }
    }

    #[test]
    fn bytes_of_any_kind_are_a_frame_or_an_error() {
        let mut state = 1_u64;
        let mut draw = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            u8::try_from(state >> 56).unwrap()
        };
        let mut frames = 0;
        for _ in 0..200_000 {
            let length = usize::from(draw() % 24);
            let mut data: Vec<u8> = (0..length).map(|_| draw()).collect();
            if let Some(first) = data.first_mut() {
                *first %= 10;
            }
            data.iter_mut().skip(2).take(3).for_each(|byte| *byte = 0); // a short header
            if let Ok(frame) = Frame::of(data.clone()) {
                assert_eq!(data.len() - HEAD, frame.header().len() + frame.body().len());
                frames += 1;
            }
        }
        assert!(frames > 1_000, "{frames}");
    }
}
