//! The floating-point control words: rounding mode, flush-to-zero, exception masks, precision.
//!
//! By the platforms' calling conventions a function gives them back as it found them, so each side
//! of a switch must find its own again. The switch saves general registers only. Here each side
//! reads the words before it leaves and, once back, writes them only if they differ: reading takes
//! a nanosecond, writing many.
//!
//! | processor | what is kept | what stays the thread's |
//! |---|---|---|
//! | x86-64 | MXCSR control bits, x87 control word | MXCSR status flags, x87 status |
//! | aarch64 | FPCR | FPSR |
//! | others | nothing | everything |
//!
//! The status flags belong to nobody across a call by the same conventions.

/// Puts one side's control words back when dropped, on return and on unwinding alike.
pub(crate) struct Restore {
    own: FloatControl,
}

impl Restore {
    /// Reads the words of the side that is about to leave.
    #[inline(always)]
    pub(crate) fn on_return() -> Self {
        Self {
            own: FloatControl::current(),
        }
    }
}

impl Drop for Restore {
    #[inline(always)]
    fn drop(&mut self) {
        if FloatControl::current() != self.own {
            self.own.load();
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, PartialEq, Eq)]
struct FloatControl {
    /// Bits 6 to 15, the status flags masked off.
    mxcsr: u32,
    x87: u16,
}

#[cfg(target_arch = "x86_64")]
impl FloatControl {
    /// The sticky exception flags, which are no control bits.
    const MXCSR_STATUS: u32 = 0x3f;

    #[inline(always)]
    fn current() -> Self {
        let mut x87 = 0_u16;
        // SAFETY: stores the control word to a local.
        unsafe {
            std::arch::asm!("fnstcw [{}]", in(reg) &mut x87, options(nostack, preserves_flags));
        }
        Self {
            mxcsr: Self::mxcsr() & !Self::MXCSR_STATUS,
            x87,
        }
    }

    #[inline(always)]
    fn mxcsr() -> u32 {
        let mut mxcsr = 0_u32;
        // SAFETY: stores the register to a local.
        unsafe {
            std::arch::asm!("stmxcsr [{}]", in(reg) &mut mxcsr, options(nostack, preserves_flags));
        }
        mxcsr
    }

    #[cold]
    #[inline(never)]
    fn load(self) {
        let mxcsr = self.mxcsr | (Self::mxcsr() & Self::MXCSR_STATUS);
        // SAFETY: both values were read from these registers, so no reserved bit is set. This side
        // ran with them before it left: for the compiler nothing changes.
        unsafe {
            std::arch::asm!(
                "ldmxcsr [{}]",
                "fldcw [{}]",
                in(reg) &mxcsr,
                in(reg) &self.x87,
                options(nostack, preserves_flags, readonly),
            );
        }
    }
}

#[cfg(target_arch = "aarch64")]
#[derive(Clone, Copy, PartialEq, Eq)]
struct FloatControl {
    fpcr: u64,
}

#[cfg(target_arch = "aarch64")]
impl FloatControl {
    #[inline(always)]
    fn current() -> Self {
        let fpcr: u64;
        // SAFETY: reads a register that user code may read.
        unsafe {
            std::arch::asm!("mrs {}, fpcr", out(reg) fpcr, options(nomem, nostack, preserves_flags));
        }
        Self { fpcr }
    }

    #[cold]
    #[inline(never)]
    fn load(self) {
        // SAFETY: the value was read from this register. This side ran with it before it left: for
        // the compiler nothing changes.
        unsafe {
            std::arch::asm!("msr fpcr, {}", in(reg) self.fpcr, options(nostack, preserves_flags));
        }
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
#[derive(Clone, Copy, PartialEq, Eq)]
struct FloatControl;

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
impl FloatControl {
    #[inline(always)]
    fn current() -> Self {
        Self
    }

    #[inline(always)]
    fn load(self) {}
}
