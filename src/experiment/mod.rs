//! Experiments: what a configuration file says, running it, and the record that it leaves on disk.

pub mod record;
