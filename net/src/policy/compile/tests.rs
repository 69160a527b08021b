mod life;
mod peers;
mod ports;
mod properties;
mod support;
mod tiers;
