//! One line for somebody who waits at a terminal, written over until it is done with.

use std::cell::Cell;
use std::io::{self, IsTerminal as _, Write as _};

/// The line. Nothing is written where standard error is no terminal, so that logs stay clean.
#[derive(Debug)]
pub(crate) struct Progress {
    is_terminal: bool,
    is_shown: Cell<bool>,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self { is_terminal: io::stderr().is_terminal(), is_shown: Cell::new(false) }
    }

    /// Replaces what the line says.
    pub(crate) fn tell(&self, text: &str) {
        if self.is_terminal {
            self.is_shown.set(true);
            write(&format!("\r\x1b[2K{text}"));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_shown.get() {
            write("\r\x1b[2K");
        }
    }
}

fn write(text: &str) {
    let mut terminal = io::stderr();
    // There is nobody to tell if it cannot be written.
    drop(terminal.write_all(text.as_bytes()).and_then(|()| terminal.flush()));
}
