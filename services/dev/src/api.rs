//! The api in this process: the only place here that knows how it is configured and filled.
