//! Layers unpacked for real: hostile ones, exact ones, and what they say to the layers below.

mod check;
mod crooked;
mod exact;
mod hostile;
mod merge;
mod random;
mod recipe;
mod stream;
