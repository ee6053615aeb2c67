//! Tests of building, by subject.

mod formats;
mod hostile;
mod model;
mod rules;
mod sparse;

/// A builder runs beside the thread that inflates.
#[test]
fn builders_can_be_sent_to_another_thread() {
    fn is_send<T: Send>() {}
    is_send::<super::Builder>();
}
