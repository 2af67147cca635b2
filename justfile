# Short names for what is typed every day. .ci/run does not need just.

# The quick checks before a commit.
check:
    .ci/run format lint docs lean

# All tests that need no root.
test:
    cargo test --workspace

# A host with several muxers, in a temporary directory.
demo *ARGS:
    cargo demo {{ARGS}}

# One seed of the simulation, told step by step.
sim SEED:
    SIM_SEED={{SEED}} cargo test --release --package freemkvd --test sim seeds -- --nocapture

# Against what muxers do without it.
benchmark *ARGS:
    cargo benchmark {{ARGS}}

# Everything, as root: what a change has to pass.
ci *STEPS:
    .ci/run {{STEPS}}

# The documentation of all crates, private items included.
doc:
    cargo doc --workspace --no-deps --document-private-items --open

# What was built with --release, in place: just install DESTDIR=/tmp/tree PREFIX=/usr
install *SETTINGS:
    packaging/install {{SETTINGS}}

# The Debian package, in target/debian.
deb:
    cargo build --locked --release --package freemkvd --package freemkvd-client
    packaging/deb
