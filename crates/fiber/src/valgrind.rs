//! Tells valgrind where stacks are. Else it takes a switch for a very large frame that ends, and all
//! in between for undefined.

use std::arch::asm;

/// `VG_USERREQ__STACK_REGISTER` of valgrind.h.
const STACK_REGISTER: u64 = 0x1501;

/// Registers the stack between two addresses. Without valgrind it does nothing.
pub(crate) fn register_stack(low: usize, high: usize) {
    let request = [STACK_REGISTER, low as u64, high as u64, 0, 0, 0];
    // SAFETY: the rotations add up to 128 bits, so that a processor changes nothing but flags.
    // Valgrind knows them for a request, reads the six words, and answers in rdx.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!(
            "rol rdi, 3",
            "rol rdi, 13",
            "rol rdi, 61",
            "rol rdi, 51",
            "xchg rbx, rbx",
            in("rax") &raw const request,
            inout("rdx") 0_u64 => _,
            options(nostack),
        );
    }
}
