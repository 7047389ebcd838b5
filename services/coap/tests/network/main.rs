//! The endpoint on a simulated network and a simulated clock: what is lost, doubled, reordered and delayed changes nothing
//! of what it promises. Every run follows from its seed.

mod observe;
mod sim;
mod transfer;
