//! Exit codes, after `sysexits.h`, so that a supervisor can tell a mistake in the configuration from an outage.

/// Everything went as asked.
pub const OK: u8 = 0;
/// The command line makes no sense (`EX_USAGE`).
pub const USAGE: u8 = 64;
/// What was to be read is not as it should be (`EX_DATAERR`).
pub const DATA: u8 = 65;
/// Something that the program needs is not there (`EX_UNAVAILABLE`).
pub const UNAVAILABLE: u8 = 69;
/// A defect of the program itself (`EX_SOFTWARE`).
pub const SOFTWARE: u8 = 70;
/// It may work later; trying again is sensible (`EX_TEMPFAIL`).
pub const TEMPFAIL: u8 = 75;
/// The configuration is wrong, and starting again will not help (`EX_CONFIG`).
pub const CONFIG: u8 = 78;
