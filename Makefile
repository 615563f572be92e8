.DEFAULT_GOAL := help
CARGO ?= cargo
export KUBERNETES_VERSION

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: tools
tools:
	@missing=; \
	command -v $(CARGO) >/dev/null || { echo "cargo is missing: install Rust (https://rustup.rs)" >&2; missing=1; }; \
	command -v go >/dev/null || { echo "go is missing: install Go 1.26 or newer (https://go.dev/doc/install)" >&2; missing=1; }; \
	command -v cc >/dev/null || { echo "cc is missing: install a C compiler (Debian: apt-get install gcc libc6-dev)" >&2; missing=1; }; \
	test -z "$$missing"

.PHONY: control-plane
control-plane: tools ## build the test control plane, or find it (KUBERNETES_VERSION: 1.35, 1.36, 1.37)
	@e2e/controlplane/build.sh

.PHONY: demo
demo: control-plane ## play the whole story on a real control plane (KEEP=1 leaves it up and says how to use it)
	@echo "building the operator, the plugin and the demo ..." >&2
	$(CARGO) build --workspace --locked --bins
	@KEEP=$(KEEP) "$$($(CARGO) metadata --locked --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')/debug/demo"

.PHONY: test
test: control-plane ## run every test, those against the real control plane too
	$(CARGO) test --workspace --locked --no-fail-fast -- $(TESTS)

.PHONY: test-long
test-long: tools ## run every test, and all of each, on each Kubernetes version: 1.35, 1.36 and 1.37
	@failed=; for version in 1.35 1.36 1.37; do \
		echo "Kubernetes $$version" >&2; \
		WAYLEAVE_TEST_LONG=1 $(MAKE) test KUBERNETES_VERSION=$$version TESTS=--include-ignored || failed="$$failed $$version"; \
	done; \
	test -z "$$failed" || { echo "tests failed on Kubernetes$$failed" >&2; exit 1; }

.PHONY: mutants
mutants: tools ## change the core in every way that cargo-mutants knows, and see that a test fails of each (more than an hour)
	@command -v cargo-mutants >/dev/null || { echo "cargo-mutants is not installed: cargo install --locked cargo-mutants" >&2; exit 1; }
	PROPTEST_CASES=32 PROPTEST_MAX_SHRINK_ITERS=0 CARGO_PROFILE_DEV_DEBUG=0 $(CARGO) mutants --package wayleave --timeout 180 --jobs 2 $(MUTANTS)

.PHONY: bench
bench: control-plane ## measure speed and cost beside a raw client, on an idle machine (BENCH: its flags, such as "--rounds 1")
	@echo "building the operator and the benchmark ..." >&2
	$(CARGO) build --workspace --release --locked --bin wayleave --bin bench
	@"$$($(CARGO) metadata --locked --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')/release/bench" $(BENCH)

.PHONY: lint
lint: tools ## check format, lints, documentation, and, where cargo-deny is installed, licences and sources
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked --document-private-items
	@if command -v cargo-deny >/dev/null; then cargo deny --locked check licenses bans sources; \
	else echo "cargo-deny is not installed: licences and sources were not checked (cargo install --locked cargo-deny)" >&2; fi

.PHONY: generate
generate: tools ## write crds/ and the chart's copy from the types
	$(CARGO) run --locked --bin crdgen crds charts/wayleave/files/crds

.PHONY: manifests
manifests: control-plane ## write what is made from the chart: deploy/, the reference of its values, and what the operator is given
	UPDATE_GOLDEN=1 $(CARGO) test --workspace --locked --test charts -- the_manifests_are the_readme_has the_operator_is_given

.PHONY: clean
clean: ## remove what was built here
	$(CARGO) clean
