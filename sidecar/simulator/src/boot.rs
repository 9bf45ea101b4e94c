//! What a simulated machine measures before dstack's own events: firmware, kernel and command line.

use postern_attest::event_log::Event;
use postern_identity::Register;
use sha2::{Digest as _, Sha384};

/// Register, event type (TCG PC Client Platform Firmware Profile, 10.4.1) and what is measured. RTMR3 belongs to dstack.
const MEASURED: [(u32, u32, &[u8]); 5] = [
    (0, 0x8000_000a, b"simulated firmware"), // EV_EFI_PLATFORM_FIRMWARE_BLOB2
    (0, 0x0000_0004, b"\0\0\0\0"),           // EV_SEPARATOR
    (1, 0x8000_0003, b"simulated kernel"),   // EV_EFI_BOOT_SERVICES_APPLICATION
    (1, 0x0000_0004, b"\0\0\0\0"),
    (2, 0x0000_0006, b"simulated command line and initial RAM disk"), // EV_EVENT_TAG
];

/// The events that extended a register, oldest first.
pub(crate) fn events(register: u32) -> impl Iterator<Item = Event> {
    MEASURED.into_iter().filter(move |(extended, ..)| *extended == register).map(|(imr, event_type, measured)| {
        let digest = Sha384::digest(measured).to_vec();
        Event { imr, event_type, digest, event_payload: measured.to_vec(), ..Event::runtime("", b"") }
    })
}

/// The value of a register after a boot.
pub(crate) fn register(register: u32) -> Register {
    replay(events(register))
}

/// A register after events, as the hardware extends it.
pub(crate) fn replay(events: impl Iterator<Item = Event>) -> Register {
    Register(events.fold([0; 48], |register, event| {
        Sha384::new().chain_update(register).chain_update(&event.digest).finalize().into()
    }))
}
