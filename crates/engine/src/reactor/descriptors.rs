//! The descriptors of one reactor: one epoll instance (kqueue elsewhere), and for
//! each descriptor who waits for it.
//!
//! A descriptor is registered once, edge-triggered, and stays registered, so that
//! a wait costs no system call of its own. Two things follow:
//!
//! - An edge may come when nobody waits. It is remembered (`readable`) until a
//!   read has found nothing more.
//! - A number says nothing: descriptors are closed behind our back, and the next
//!   file gets the number. The kernel has dropped the registration then, and a
//!   wait would never end. So a registration belongs to an owner, the Python socket
//!   that it was made for. It is trusted as long as that object lives and asks; for
//!   everybody else it is made anew at each wait, one system call.

use core::ptr;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use pyo3::ffi::{self, PyObject};

use super::waiter::Waiter;

pub const READ: u8 = 1;
pub const WRITE: u8 = 2;
/// Exceptional data (`POLLPRI`).
pub const PRIORITY: u8 = 4;

/// Events taken out of the kernel at once.
const BATCH: usize = 1024;

const WAKER: Token = Token(usize::MAX);

/// One registered descriptor.
struct Descriptor {
    /// Tells an event of an earlier file with the same number apart.
    generation: u32,
    /// What the kernel watches it for.
    interest: u8,
    /// Whether a read may find something: an event has come, and no read has been
    /// in vain since.
    readable: bool,
    /// Whether the end of the stream, an error or urgent data has been seen: then a
    /// short read proves nothing, as no further event may come.
    ended: bool,
    /// The socket it was registered for, only compared; or null.
    owner: *mut PyObject,
    /// A weak reference to the owner, whose callback clears `owner`; or null.
    guard: *mut PyObject,
    waiters: Vec<(*mut Waiter, u8)>,
}

/// All descriptors of a reactor.
pub struct Descriptors {
    /// Nothing, once the loop has ended.
    poll: Option<Poll>,
    events: Events,
    waker: Option<Arc<Waker>>,
    by_number: Vec<Option<Box<Descriptor>>>,
    generation: u32,
}

impl Descriptors {
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            poll: Some(Poll::new()?),
            events: Events::with_capacity(BATCH),
            waker: None,
            by_number: Vec::new(),
            generation: 0,
        })
    }

    /// Gives the kernel its descriptors back. Nothing can be watched any more.
    pub fn close(&mut self) {
        self.waker = None;
        self.poll = None;
    }

    /// The descriptor that the loop watches, or -1.
    pub fn fileno(&self) -> RawFd {
        self.poll.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }

    /// What another thread makes the loop turn with.
    pub fn waker(&mut self) -> io::Result<Arc<Waker>> {
        if let Some(waker) = &self.waker {
            return Ok(Arc::clone(waker));
        }
        let poll = self.poll.as_ref().ok_or_else(no_descriptor)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        self.waker = Some(Arc::clone(&waker));
        Ok(waker)
    }

    fn get(&mut self, fd: RawFd) -> Option<&mut Descriptor> {
        let index = usize::try_from(fd).ok()?;
        self.by_number.get_mut(index)?.as_deref_mut()
    }

    /// Whether it makes sense to try a read for `owner` before waiting.
    #[inline]
    pub fn may_be_readable(&mut self, fd: RawFd, owner: *mut PyObject) -> bool {
        match self.get(fd) {
            Some(found) if found.owner == owner && found.interest & READ != 0 => found.readable,
            _ => true,
        }
    }

    /// A read for `owner` was in vain, or took all there was.
    #[inline]
    pub fn was_drained(&mut self, fd: RawFd, owner: *mut PyObject) {
        if let Some(found) = self.get(fd) {
            if found.owner == owner {
                found.readable = false;
            }
        }
    }

    /// A read of a stream gave less than it asked for: that was all, unless the
    /// stream has ended behind it.
    #[inline]
    pub fn was_short(&mut self, fd: RawFd, owner: *mut PyObject) {
        if let Some(found) = self.get(fd) {
            if found.owner == owner && !found.ended {
                found.readable = false;
            }
        }
    }

    /// Whether `fd` is not known as `owner`'s.
    pub fn needs_guard(&mut self, fd: RawFd, owner: *mut PyObject) -> bool {
        !owner.is_null() && self.get(fd).is_none_or(|found| found.owner != owner)
    }

    /// Has the kernel watch `fd` for `events`, and notes `waiter`. `guard` is what
    /// [`guards::make`](super::guards::make) made where [`needs_guard`](Self::needs_guard)
    /// asked for it: making it runs the collector, and so any code, which must not
    /// find the reactor borrowed.
    ///
    /// Returns false when nothing needs to be waited for: the descriptor is one that
    /// is always ready (a regular file).
    pub fn add_waiter(
        &mut self,
        fd: RawFd,
        events: u8,
        owner: *mut PyObject,
        guard: *mut PyObject,
        waiter: *mut Waiter,
    ) -> io::Result<bool> {
        match self.watch(fd, events, owner, guard) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => return Ok(false),
            Err(error) => return Err(error),
        }
        if let Some(found) = self.get(fd) {
            found.waiters.push((waiter, events));
        }
        Ok(true)
    }

    fn watch(
        &mut self,
        fd: RawFd,
        events: u8,
        owner: *mut PyObject,
        guard: *mut PyObject,
    ) -> io::Result<()> {
        let Ok(index) = usize::try_from(fd) else {
            return Err(no_descriptor());
        };
        let registry = self.poll.as_ref().ok_or_else(no_descriptor)?.registry();
        if index >= self.by_number.len() {
            self.by_number.resize_with(index + 1, || None);
        }
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let mut source = SourceFd(&fd);
        let Some(found) = self.by_number[index].as_deref_mut() else {
            register(registry, &mut source, fd, generation, events)?;
            self.by_number[index] = Some(Box::new(Descriptor {
                generation,
                interest: events,
                readable: false,
                ended: false,
                owner,
                guard,
                waiters: Vec::new(),
            }));
            return Ok(());
        };
        if !owner.is_null() && found.owner == owner && found.interest & events == events {
            return Ok(());
        }
        let wanted = found.interest | events;
        let again = registry.reregister(&mut source, token(fd, found.generation), interest(wanted));
        match again {
            Ok(()) if owner.is_null() || found.owner == owner => {
                found.interest = wanted;
                return Ok(());
            }
            // The same file, and a new owner of it.
            Ok(()) => found.interest = wanted,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                found.generation = generation;
                register(registry, &mut source, fd, generation, events)?;
                found.interest = events;
                found.ended = false;
                found.readable = false;
            }
            Err(error) => return Err(error),
        }
        drop_guard(found);
        found.owner = owner;
        found.guard = guard;
        Ok(())
    }

    /// What a waiter waits for there.
    pub fn events_of(&mut self, fd: RawFd, waiter: *mut Waiter) -> u8 {
        let Some(found) = self.get(fd) else {
            return 0;
        };
        let of_waiter = found.waiters.iter().filter(|(known, _)| *known == waiter);
        of_waiter.fold(0, |all, (_, events)| all | events)
    }

    /// The waiter does not wait any more.
    pub fn remove_waiter(&mut self, fd: RawFd, waiter: *mut Waiter) {
        if let Some(found) = self.get(fd) {
            found.waiters.retain(|(known, _)| *known != waiter);
        }
    }

    /// The descriptor is about to be closed: the waiters, which must find that out.
    pub fn forget(&mut self, fd: RawFd) -> Vec<(*mut Waiter, u8)> {
        let Some(slot) = usize::try_from(fd)
            .ok()
            .and_then(|index| self.by_number.get_mut(index))
        else {
            return Vec::new();
        };
        let Some(mut found) = slot.take() else {
            return Vec::new();
        };
        drop_guard(&mut found);
        // A duplicate would keep the registration alive. What is closed already is
        // not registered, which is as well.
        if let Some(poll) = &self.poll {
            let _ = poll.registry().deregister(&mut SourceFd(&fd));
        }
        found.waiters
    }

    /// The owner is gone, and has closed the descriptor.
    pub fn owner_is_gone(&mut self, fd: RawFd, guard: *mut PyObject) {
        if let Some(found) = self.get(fd) {
            if found.guard == guard {
                drop_guard(found);
                found.owner = ptr::null_mut();
            }
        }
    }

    /// Takes events from the kernel, and gives `wake` each waiter they are for,
    /// with its events. Returns whether more may be there.
    pub fn poll(&mut self, mut wake: impl FnMut(*mut Waiter, u8)) -> io::Result<bool> {
        let poll = self.poll.as_mut().ok_or_else(no_descriptor)?;
        match poll.poll(&mut self.events, Some(Duration::ZERO)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(true),
            Err(error) => return Err(error),
        }
        let mut count = 0;
        for event in &self.events {
            count += 1;
            let token = event.token();
            if token == WAKER {
                continue;
            }
            let (fd, generation) = (token.0 as u32 as usize, (token.0 >> 32) as u32);
            let Some(found) = self.by_number.get_mut(fd).and_then(Option::as_deref_mut) else {
                continue;
            };
            if found.generation != generation {
                continue;
            }
            let events = found.note(event);
            found.waiters.retain(|(waiter, wanted)| {
                let got = wanted & events;
                if got != 0 {
                    wake(*waiter, got);
                }
                got == 0
            });
        }
        Ok(count == BATCH)
    }

    /// How many descriptors are known, and how many waiters there are.
    pub fn count(&self) -> (usize, usize) {
        self.by_number
            .iter()
            .flatten()
            .fold((0, 0), |(known, waiting), descriptor| {
                (known + 1, waiting + descriptor.waiters.len())
            })
    }
}

impl Descriptor {
    fn note(&mut self, event: &Event) -> u8 {
        let mut events = 0;
        let over = event.is_error() || event.is_read_closed() || event.is_write_closed();
        if event.is_readable() || over {
            events |= READ;
            self.readable = true;
        }
        if event.is_writable() || event.is_error() || event.is_write_closed() {
            events |= WRITE;
        }
        if event.is_priority() {
            events |= PRIORITY;
        }
        self.ended |= over || event.is_priority();
        events
    }
}

impl Drop for Descriptors {
    fn drop(&mut self) {
        for found in self.by_number.iter_mut().flatten() {
            drop_guard(found);
        }
    }
}

fn no_descriptor() -> io::Error {
    io::Error::from_raw_os_error(libc::EBADF)
}

fn token(fd: RawFd, generation: u32) -> Token {
    Token((generation as usize) << 32 | fd as u32 as usize)
}

fn interest(events: u8) -> Interest {
    let parts = [
        (READ, Interest::READABLE),
        (WRITE, Interest::WRITABLE),
        #[cfg(target_os = "linux")]
        (PRIORITY, Interest::PRIORITY),
    ];
    parts
        .into_iter()
        .filter(|(bit, _)| events & bit != 0)
        .map(|(_, interest)| interest)
        .reduce(Interest::add)
        .unwrap_or(Interest::READABLE)
}

fn register(
    registry: &mio::Registry,
    source: &mut SourceFd<'_>,
    fd: RawFd,
    generation: u32,
    events: u8,
) -> io::Result<()> {
    use mio::event::Source;
    match source.register(registry, token(fd, generation), interest(events)) {
        // Forgotten here, and kept alive over there by a duplicate.
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
            source.reregister(registry, token(fd, generation), interest(events))
        }
        done => done,
    }
}

fn drop_guard(found: &mut Descriptor) {
    let guard = core::mem::replace(&mut found.guard, ptr::null_mut());
    // SAFETY: the GIL is held by all who use a reactor; the reference is ours. A
    // weak reference that goes runs no code.
    unsafe { ffi::Py_XDECREF(guard) };
}
