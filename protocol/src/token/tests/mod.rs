mod check;
mod keys;
mod refresh;
mod vectors;
