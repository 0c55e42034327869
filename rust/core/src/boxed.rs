//! Large values that are made where they stay.

/// A value on the heap, made in its place. `Box::new` and `Box::pin` make it on the stack and copy all of it, which for
/// the future of a request is 6 KiB, and nearly nothing in it is set yet.
#[macro_export]
macro_rules! boxed {
    ($value:expr) => {
        ::std::boxed::Box::write(::std::boxed::Box::new_uninit(), $value)
    };
}

/// The same for a future that is polled there.
#[macro_export]
macro_rules! pinned {
    ($future:expr) => {
        ::std::boxed::Box::into_pin($crate::boxed!($future))
    };
}
