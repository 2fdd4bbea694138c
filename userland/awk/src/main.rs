fn main() {
    std::process::exit(oxbow_awk::main(std::env::args_os().collect()));
}
