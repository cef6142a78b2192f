"""The measurements of `streamfn bench`: a machine's disk, and streamfn on it."""
