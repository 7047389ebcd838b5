//! The forms surface (seed 003, forms-http contract).

mod create;
