//! What the holder of a connection does with it.

use std::io;
use std::task::{Context, Poll};

use smoltcp::socket::tcp::{RecvError, State};
use smoltcp::time::Instant;
use tokio::io::ReadBuf;

use super::{Connection, Ending, LINGER, Phase};

impl Connection {
    /// Waits for the handshake to end one way or the other.
    pub(in crate::netstack) fn poll_open(&mut self, cx: &Context<'_>) -> Poll<Option<Ending>> {
        if self.ending.is_some() || !matches!(self.phase(), Phase::Opening) {
            return Poll::Ready(self.ending);
        }
        self.tcp().register_send_waker(cx.waker());
        Poll::Pending
    }

    /// Reads bytes that came in; none when the far end will send no more. After an ending other than by FIN, an error.
    pub(in crate::netstack) fn poll_read(&mut self, cx: &Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ending == Some(Ending::Removed) {
            return Poll::Ready(Err(ended(Ending::Removed)));
        }
        let before = buf.filled().len();
        loop {
            let taken = self.tcp().recv(|data| {
                let part = data.get(..data.len().min(buf.remaining())).unwrap_or_default();
                buf.put_slice(part);
                (part.len(), part.len())
            });
            match taken {
                Ok(0) => break,
                Ok(_) => {}
                Err(RecvError::Finished) => return Poll::Ready(Ok(())),
                Err(RecvError::InvalidState) => match self.ending {
                    Some(ending) if buf.filled().len() == before => return Poll::Ready(Err(ended(ending))),
                    Some(_) | None => break,
                },
            }
        }
        if buf.filled().len() > before || buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        self.tcp().register_recv_waker(cx.waker());
        Poll::Pending
    }

    /// Takes bytes to be sent, as many as there is room for.
    pub(in crate::netstack) fn poll_write(
        &mut self,
        cx: &Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(ending) = self.ending.filter(|ending| *ending != Ending::Finished) {
            return Poll::Ready(Err(ended(ending)));
        }
        let mut taken = 0;
        for slice in slices.iter().filter(|slice| !slice.is_empty()) {
            match self.tcp().send_slice(slice) {
                Ok(count) => taken += count,
                Err(_) => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        if taken == 0 && slices.iter().any(|slice| !slice.is_empty()) {
            self.tcp().register_send_waker(cx.waker());
            return Poll::Pending;
        }
        Poll::Ready(Ok(taken))
    }

    /// Sends FIN after what was written. Bytes still come in.
    pub(in crate::netstack) fn shutdown(&mut self) -> io::Result<()> {
        if let Some(ending) = self.ending.filter(|ending| *ending != Ending::Finished) {
            return Err(ended(ending));
        }
        self.tcp().close();
        Ok(())
    }

    /// Nobody holds the connection any more. One that was shut down delivers what was written, in bounded time; one that
    /// was not is reset.
    pub(in crate::netstack) fn abandon(&mut self, now: Instant) {
        match self.tcp().state() {
            State::FinWait1 | State::FinWait2 | State::Closing | State::LastAck => {
                self.abandoned = Some(now + LINGER.into());
                self.discard();
            }
            State::TimeWait | State::Closed => {}
            State::Listen | State::SynSent | State::SynReceived | State::Established | State::CloseWait => {
                self.cut(Ending::Removed);
            }
        }
    }

    /// Ends the connection here and now; the reset goes out with the next [`Connection::emit`].
    pub(in crate::netstack) fn cut(&mut self, ending: Ending) {
        self.ending = Some(ending);
        self.tcp().abort();
    }

    /// Throws away what nobody will read. When all was delivered and more still comes, the far end is told.
    pub(super) fn discard(&mut self) {
        let tcp = self.tcp();
        let mut unread = 0;
        while let Ok(count @ 1..) = tcp.recv(|data| (data.len(), data.len())) {
            unread += count;
        }
        if unread > 0 && tcp.state() == State::FinWait2 {
            self.cut(Ending::Removed);
        }
    }
}

fn ended(ending: Ending) -> io::Error {
    match ending {
        Ending::Finished => io::ErrorKind::NotConnected.into(),
        Ending::Reset => io::ErrorKind::ConnectionReset.into(),
        Ending::TimedOut => io::ErrorKind::TimedOut.into(),
        Ending::Removed => io::Error::new(io::ErrorKind::ConnectionAborted, "the tunnel to the peer was taken down"),
    }
}
