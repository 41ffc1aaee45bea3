//! Asks the allocator to keep freed pages for a second.
//!
//! Memtables and write batches come and go many times a second. By default the allocator gives their pages back to the
//! kernel within ten milliseconds, and every first touch of a new page then costs two to three times a copy: a quarter
//! of the CPU of an append. An idle broker still gives them back.

/// `mi_option_purge_delay` in mimalloc's list of options.
const PURGE_DELAY: std::ffi::c_int = 15;
/// Milliseconds.
const KEPT_FOR: std::ffi::c_long = 1000;

// The binding's feature that exposes this function is off; the symbol is there in any case.
use mimalloc as _;

#[expect(unsafe_code, reason = "the allocator's own C function; it has no Rust binding that is enabled")]
mod ffi {
    unsafe extern "C" {
        fn mi_option_set(option: std::ffi::c_int, value: std::ffi::c_long);
    }

    /// Sets an option of mimalloc's.
    pub fn set(option: std::ffi::c_int, value: std::ffi::c_long) {
        // SAFETY: the function stores a number in a table of the allocator's; an unknown option is ignored. Another
        // thread that reads the number meanwhile sees the old or the new one.
        unsafe { mi_option_set(option, value) }
    }
}

/// Keeps freed pages for a second, in the whole process.
pub fn keep_pages() {
    ffi::set(PURGE_DELAY, KEPT_FOR);
}
