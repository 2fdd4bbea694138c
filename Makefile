# Oxbow's verbs. Each line calls one script or tool in build/; `make` alone prints them.
#
# Settings, as environment or `make qemu CPUS=4`:
#   FIRMWARE=bios|uefi  CPUS=2  MEMORY=256 (MiB)  CPU=max  ACCEL=kvm|tcg  IMAGE=dist/oxbow.qcow2   for qemu, qemu-sdl, debug
#   SSH_PORT=2222   for qemu, ssh   SSH_WAIT=20 (seconds)   for ssh
#   RELEASE=1   an image that trusts no key, dist/oxbow-release.qcow2
#   OXBOW_HOME=~/.cache/oxbow   toolchain, and userland binaries by the hash of what they are built from
.DEFAULT_GOAL := help
.PHONY: help setup all image qemu ssh qemu-sdl debug drop test-all test-unit test-integration bench flame fmt lint ci-local clean
MAKEFLAGS += --no-print-directory

# Settings given on make's command line reach the scripts.
export FIRMWARE CPUS MEMORY CPU ACCEL IMAGE OXBOW_HOME FILE DEST TEST RELEASE SSH_PORT SSH_WAIT CMD ROW QUICK ROUNDS ONLY

help: ## print these verbs
	@build/help.sh Makefile

setup: ## install what is missing to build, boot and test; the other verbs do it by themselves
	@build/setup/setup.sh

all: ## build kernel, loader and userland
	@build/all.sh

image: ## build everything and make dist/oxbow.qcow2; RELEASE=1: one that trusts no key, dist/oxbow-release.qcow2
	@build/image.sh

qemu: ## boot the image to a shell in this terminal (Ctrl-A X leaves)
	@build/qemu.sh console

ssh: ## log in to the guest that `make qemu` runs, or run a command in it: make ssh CMD='uname -a'
	@build/ssh.sh $(if $(CMD),"$$CMD")

qemu-sdl: ## boot the image in a window, with the serial console in this terminal
	@build/qemu.sh window

debug: ## boot the image stopped, waiting for gdb on port 1234
	@build/qemu.sh debug

drop: ## put a file onto the image, no rebuild: make drop FILE=./hello [DEST=/bin/hello]
	@build/drop.sh "$(FILE)" "$(DEST)"

test-all: ## every test: unit, then integration
	@build/test/all.sh

test-unit: ## format, lints, layer check and unit tests, without a VM
	@build/test/unit.sh

test-integration: ## tests that boot the image; TEST=name runs those whose name has it
	@build/test/integration.sh

bench: ## measure against Linux in the same VM; ROW=name runs one row, QUICK=1 all in under 3 minutes
	@build/bench/bench.sh

flame: ## draw where the time of a row goes: make flame ROW=name leaves dist/flame-NAME.svg
	@build/bench/bench.sh flame

fmt: ## format the sources
	@build/lint.sh format

lint: ## clippy for the host and every target, warnings denied, and the layer check
	@build/lint.sh check

ci-local: ## run what the hosted CI runs, in a fresh clone of the last commit
	@build/ci-local.sh

clean: ## remove build products (the toolchain stays)
	@build/clean.sh
