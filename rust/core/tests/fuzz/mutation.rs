//! Damage that a decoder has to survive: to numbers where numbers stand, and to bytes anywhere.

/// A small, seeded source of chance: execution *n* of a decoder is the same in every run.
#[derive(Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// The source for one execution.
    pub(crate) fn new(seed: u64, execution: u64) -> Self {
        Self(seed ^ execution.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// Any number. SOURCE: splitmix64, Steele, Lea and Flood, OOPSLA 2014.
    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 if that is 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.number().checked_rem(end as u64).unwrap_or(0) as usize
    }

    /// True once in `many` times.
    pub(crate) fn once_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }

    /// Up to `most` bytes.
    pub(crate) fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most + 1)).map(|_| self.number() as u8).collect()
    }

    /// One of several.
    pub(crate) fn choose<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// A number at which decoders go wrong: an edge, or a neighbour of what is there.
    fn edge(&mut self, now: u64) -> u64 {
        match self.below(8) {
            0 => 0,
            1 => u64::MAX,
            2 => now.wrapping_add(1),
            3 => now.wrapping_sub(1),
            4 => (1 << self.below(64)) - 1,
            5 => 1 << self.below(64),
            6 => now ^ (1 << self.below(64)),
            _ => self.number(),
        }
    }
}

/// Changes a structure in one to four places. `hot` is how many of its first bytes hold most of its
/// numbers; `other` is another structure of the kind, to splice from.
pub(crate) fn mutate(bytes: &mut Vec<u8>, hot: usize, other: &[u8], random: &mut Random) {
    for _ in 0..=random.below(4) {
        if random.once_in(3) {
            change_bytes(bytes, other, random);
        } else {
            change_number(bytes, hot, random);
        }
    }
}

fn change_number(bytes: &mut [u8], hot: usize, random: &mut Random) {
    let width = *random.choose(&[1, 2, 4, 8]);
    let room = if random.once_in(5) { bytes.len() } else { hot.min(bytes.len()) };
    let at = random.below(room) / width * width;
    let Some(place) = bytes.get_mut(at..at + width) else { return };
    let mut now = [0; 8];
    now[..width].copy_from_slice(place);
    let new = random.edge(u64::from_le_bytes(now));
    place.copy_from_slice(&new.to_le_bytes()[..width]);
}

fn change_bytes(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let at = random.below(bytes.len());
    let length = (1 << random.below(10)).min(bytes.len() - at);
    match random.below(7) {
        0 => bytes.truncate(at),
        1 => drop(bytes.drain(at..at + length)),
        2 => bytes[at..at + length].fill(0),
        3 => {
            let copy = bytes[at..at + length].to_vec();
            let to = random.below(bytes.len() + 1);
            bytes.splice(to..to, copy);
        }
        4 => {
            let part = other.get(at..(at + length).min(other.len())).unwrap_or_default();
            bytes[at..at + part.len().min(length)].copy_from_slice(part);
        }
        5 => {
            let noise = random.bytes(16);
            bytes.splice(at..at, noise);
        }
        _ => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
    }
}
