fn main() {
    std::process::exit(oxbow_sed::main(std::env::args_os().collect()));
}
