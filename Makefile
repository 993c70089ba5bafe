.DEFAULT_GOAL := help
.PHONY: help demo test build deb deb-test image-test dist soak sim bench bench-density bench-hls bench-sync bench-total bench-transcode ci fmt clippy clean-out rust

# rustup's directory is not on the PATH of every shell.
export PATH := $(HOME)/.cargo/bin:$(PATH)

help: ## Show what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: rust ## Install what is missing, build, and record a short meeting of a stand-in server into an MP4
	tools/install-deps
	cargo build --locked --bins --example demo
	cargo run --locked --example demo

# Most tests wait for a Chrome or a deadline for most of their time: two to a processor.
test: export RUST_TEST_THREADS ?= $(shell expr 2 '*' $$(nproc))
test: rust ## Install what is missing and run every test, those with a real browser included
	tools/install-deps
	cargo test --locked

soak: MINUTES ?= 30
soak: rust ## Break and hang everything at random while it records, and account for every recording; MINUTES=60, SOAK="--seed 7" repeats one
	tools/install-deps
	cargo build --locked --bins --example soak
	cargo run --locked --example soak -- --minutes $(MINUTES) $(SOAK)

sim: rust ## Simulate a fleet of 500 nodes and 5,000 recordings on a real nats-server; SIM="--when-full stay" compares, --help lists the options
	tools/install-deps
	cargo run --release --locked --example sim -- $(SIM)

build: rust ## Build the release binary, target/release/plugnmeet-recorder
	tools/install-deps
	cargo build --release --locked

deb: rust ## Build the Debian package, target/packaging/*.deb
	tools/install-deps
	packaging/build-deb

deb-test: rust ## Install, upgrade, remove and purge the package in a clean Debian 12 with a systemd of its own; root, five minutes
	tools/install-deps
	cargo build --locked --bins --example standin --example manual
	packaging/check --clean

image-test: build ## Build the images and record a meeting with them; docker or podman, root, five minutes
	cargo build --locked --example standin
	packaging/image-check

dist: rust ## Build the tarballs of a release with their SBOM and checksums, target/dist/
	tools/install-deps
	packaging/dist

bench: rust ## Measure what a recording costs, beside the alternatives; half an hour, on a machine that does nothing else
	tools/install-deps
	cargo run --release --locked --example bench -- cost --out bench
	cargo run --release --locked --example bench -- transcode --seconds 60

bench-density: rust ## Measure how many recordings at once this machine holds, ours and the reference's
	tools/install-deps
	cargo run --release --locked --example bench -- density --out bench

bench-hls: rust ## Measure what the HLS of a meeting costs, beside ffmpeg run for each rendition; five minutes
	tools/install-deps
	cargo run --release --locked --example bench -- hls --out bench

bench-sync: rust ## Measure whether sound and picture are in step: many starts, then half an hour in one go
	tools/install-deps
	cargo run --release --locked --example bench -- sync
	cargo run --release --locked --example bench -- sync --rounds 1 --seconds 1800 --pipeline ours

bench-total: rust ## Measure what a recording and its MP4 cost in all, encoded twice and once; half an hour
	tools/install-deps
	cargo run --release --locked --example bench -- total --out bench

bench-transcode: rust ## Measure what the MP4 of a meeting of ten minutes costs, from our raw file and the reference's, and each profile; an hour and a half
	tools/install-deps
	cargo run --release --locked --example bench -- transcode --profiles --out bench

ci: rust ## Run everything that a change must pass
	.ci/run

fmt: rust ## Format the code
	cargo fmt --all

clippy: rust ## Lint the code as CI does
	cargo clippy --all-targets --locked -- -D warnings

clean-out: ## Remove what the demo wrote
	rm -rf out

# Says how to get Rust, or a newer one, where cargo alone would say something less helpful.
rust:
	@have=$$(rustc --version 2>/dev/null | awk '{ print $$2 }'); \
	want=$$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml); \
	if ! command -v cargo >/dev/null || [ "$$(printf '%s\n' "$$want" "$$have" | sort -V | head -n 1)" != "$$want" ]; then \
		echo "This needs Rust $$want or newer (found: $${have:-none}). Either of these brings it:"; \
		echo "  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y"; \
		echo "  sudo apt-get install rustup && rustup default stable    (Debian 13, Ubuntu 24.04 and later)"; \
		exit 1; \
	fi >&2
