"""What this machine's disk and streamfn on it can do: the measurements of `streamfn bench`."""
