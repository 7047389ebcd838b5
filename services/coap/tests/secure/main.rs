//! DTLS under endpoints, on a simulated network and a simulated clock. dimpl's random bytes are its own, so that runs differ in
//! them; the network follows from its seed.

mod peers;
mod rubbish;
mod sim;
mod weather;
