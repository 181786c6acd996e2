//! Where greenlet keeps its pointer to the state of a thread.
//!
//! It is a thread-local variable of greenlet's library, with no name that could
//! be looked up. So the library's block of such variables is searched for the
//! one word that points to something that begins with this thread's main
//! greenlet and its current one. Any other number of such words than one is a
//! failure.

#[cfg(target_os = "linux")]
use core::ffi::{c_int, c_void};

use pyo3::ffi::{self, PyObject};

use super::api;

/// The address of the word, in the calling thread. Makes greenlet's state for the
/// stack that runs.
///
/// # Safety
///
/// The GIL is held.
pub unsafe fn word() -> Option<*mut usize> {
    // SAFETY: the GIL is held, so nobody switches greenlets meanwhile.
    unsafe {
        let current = api::current();
        if current.is_null() {
            return None;
        }
        let main = root_of(current);
        let found = main.and_then(|main| search(main, current));
        // The state holds them.
        ffi::Py_DECREF(current);
        found
    }
}

/// The greenlet that has no parent, borrowed from those below it.
unsafe fn root_of(greenlet: *mut PyObject) -> Option<*mut PyObject> {
    // SAFETY: the GIL is held; each greenlet holds its parent.
    unsafe {
        let mut root = greenlet;
        loop {
            let parent = ffi::PyObject_GetAttrString(root, c"parent".as_ptr());
            if parent.is_null() {
                ffi::PyErr_Clear();
                return None;
            }
            ffi::Py_DECREF(parent);
            if parent == ffi::Py_None() {
                return Some(root);
            }
            root = parent;
        }
    }
}

#[cfg(target_os = "linux")]
unsafe fn search(main: *mut PyObject, current: *mut PyObject) -> Option<*mut usize> {
    // SAFETY: the block is this thread's, and its size is the library's own.
    unsafe {
        let (block, size) = variables_of_library(api::get()?.get_current as *const () as usize)?;
        let reader = Reader::new()?;
        let matches = |word: &*mut usize| {
            let state = **word;
            state % align_of::<usize>() == 0
                && reader.read(state) == Some([main as usize, current as usize])
        };
        let mut words = (0..size / size_of::<usize>())
            .map(|index| block.cast::<usize>().add(index))
            .filter(matches);
        match (words.next(), words.next()) {
            (Some(word), None) => Some(word),
            _ => None,
        }
    }
}

#[cfg(not(target_os = "linux"))]
unsafe fn search(_main: *mut PyObject, _current: *mut PyObject) -> Option<*mut usize> {
    None // no way is known to find the block of a library's thread-local variables
}

/// This thread's block of thread-local variables of the library that `code` lies
/// in, and its size.
#[cfg(target_os = "linux")]
unsafe fn variables_of_library(code: usize) -> Option<(*mut u8, usize)> {
    struct Search {
        code: usize,
        found: Option<(*mut u8, usize)>,
    }

    unsafe extern "C" fn look(
        info: *mut libc::dl_phdr_info,
        size: usize,
        search: *mut c_void,
    ) -> c_int {
        // SAFETY: called by the dynamic linker with what it says.
        unsafe {
            let search = &mut *search.cast::<Search>();
            let end_of_data =
                core::mem::offset_of!(libc::dl_phdr_info, dlpi_tls_data) + size_of::<*mut c_void>();
            if size < end_of_data || (*info).dlpi_phdr.is_null() {
                return 0;
            }
            let base = (*info).dlpi_addr as usize;
            let headers =
                core::slice::from_raw_parts((*info).dlpi_phdr, (*info).dlpi_phnum as usize);
            let holds = |header: &&libc::Elf64_Phdr| {
                let start = base + header.p_vaddr as usize;
                header.p_type == libc::PT_LOAD
                    && (start..start + header.p_memsz as usize).contains(&search.code)
            };
            if !headers.iter().any(|header| holds(&header)) {
                return 0;
            }
            let variables = headers.iter().find(|header| header.p_type == libc::PT_TLS);
            if let Some(variables) = variables
                && !(*info).dlpi_tls_data.is_null()
            {
                search.found = Some(((*info).dlpi_tls_data.cast(), variables.p_memsz as usize));
            }
            1
        }
    }

    let mut search = Search { code, found: None };
    // SAFETY: the callback gets what it expects.
    unsafe { libc::dl_iterate_phdr(Some(look), (&raw mut search).cast()) };
    search.found
}

/// Reads memory that may not be there: the kernel says so, in place of a signal.
#[cfg(target_os = "linux")]
struct Reader {
    pipe: [c_int; 2],
}

#[cfg(target_os = "linux")]
impl Reader {
    fn new() -> Option<Self> {
        let mut pipe = [0; 2];
        // SAFETY: room for two descriptors.
        let made = unsafe { libc::pipe2(pipe.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) };
        (made == 0).then_some(Self { pipe })
    }

    /// Two words at an address, or None.
    fn read(&self, address: usize) -> Option<[usize; 2]> {
        let mut words = [0_usize; 2];
        let size = size_of_val(&words);
        // SAFETY: the kernel reads, and says if it can't; room for two words.
        unsafe {
            if libc::write(self.pipe[1], address as *const c_void, size) != size as isize {
                return None;
            }
            let got = libc::read(self.pipe[0], words.as_mut_ptr().cast(), size);
            (got == size as isize).then_some(words)
        }
    }
}

#[cfg(target_os = "linux")]
impl Drop for Reader {
    fn drop(&mut self) {
        for descriptor in self.pipe {
            // SAFETY: ours, closed once.
            unsafe { libc::close(descriptor) };
        }
    }
}
