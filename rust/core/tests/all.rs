//! The tests of the core, in one program, which is built and linked once; its threads take tests of all
//! files, so that no processor waits for the longest test of one file.
//!
//! `cargo test --test all torn_tail::` runs those of one file. Programs of their own are only `fuzz`, which counts
//! memory, `loom`, which has words of its own, and `hand_over`, which starts itself again.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod crash_workloads;
mod simulation;

mod append_and_read;
mod bit_rot;
mod copies;
mod crash;
mod fsck;
mod full_disk;
mod gaps;
mod holes;
mod io_errors;
mod lanes_crash;
mod lanes_model;
mod limits;
mod names;
mod newer_version;
mod remove_mapping;
mod remove_stream;
mod removed_segments;
mod rename_mapping;
mod replay;
mod reshard;
mod retention;
mod seal;
mod set_stream;
mod stale_page;
mod torn_tail;
mod windows;
mod windows_crash;

/// A file that nobody names here would be compiled, and run, by nobody.
#[test]
#[allow(clippy::disallowed_methods, reason = "a test looks at the files of the tree")]
fn every_file_is_in_a_program() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let (named, programs) = (include_str!("all.rs"), include_str!("../Cargo.toml"));
    for entry in std::fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        if let Some(module) = file.strip_suffix(".rs") {
            let is_here = named.contains(&format!("\nmod {module};\n"));
            let is_alone = programs.contains(&format!("path = \"tests/{file}\""));
            assert!(is_here || is_alone, "{file}");
        }
    }
}
