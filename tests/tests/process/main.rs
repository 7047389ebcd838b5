//! Whole processes, as an operator runs them: started by their binaries, killed, started again.

mod kill;
mod system;
