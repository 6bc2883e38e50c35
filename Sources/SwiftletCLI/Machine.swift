import CPUKernels
import Glibc

/// What a report of a problem or a benchmark says about the machine.
struct Machine {
  /// Kernel and architecture.
  var system: String
  /// The processor's own name.
  var processor: String
  /// Threads that work runs on.
  var threads: Int
  /// Instruction sets that the kernels choose among.
  var instructions: [String]
  /// Bytes of memory.
  var memory: Int
  /// Bytes of memory that a program can still have.
  var availableMemory: Int
  /// Where compiled kernels and fetched models lie.
  var cacheFolder: String

  static var current: Machine {
    var names = utsname()
    uname(&names)
    let system = withUnsafeBytes(of: &names.sysname) { text($0) }
    let release = withUnsafeBytes(of: &names.release) { text($0) }
    let architecture = withUnsafeBytes(of: &names.machine) { text($0) }
    var instructions: [String] = []
    if sl_has_avx2() != 0 { instructions.append("AVX2") }
    if sl_has_avx512() != 0 { instructions.append("AVX-512") }
    if sl_has_avx512bf16() != 0 { instructions.append("AVX512-BF16") }
    let pageSize = sysconf(Int32(_SC_PAGESIZE))
    let memory = sysconf(Int32(_SC_PHYS_PAGES)) * pageSize
    return Machine(
      system: "\(system) \(release) \(architecture)",
      processor: value(of: "model name", in: "/proc/cpuinfo") ?? architecture,
      threads: Int(sl_thread_count()),
      instructions: instructions,
      memory: memory,
      availableMemory: value(of: "MemAvailable", in: "/proc/meminfo")
        .flatMap { $0.split(separator: " ").first }.flatMap { Int($0) }.map { $0 * 1024 } ?? memory,
      cacheFolder: cacheFolder)
  }

  private static var cacheFolder: String {
    func variable(_ name: String) -> String? {
      getenv(name).map { String(cString: $0) }.flatMap { $0.isEmpty ? nil : $0 }
    }
    if let folder = variable("SWIFTLET_CACHE") { return folder }
    if let folder = variable("XDG_CACHE_HOME") { return folder + "/swiftlet" }
    return (variable("HOME") ?? "") + "/.cache/swiftlet"
  }

  private static func text(_ bytes: UnsafeRawBufferPointer) -> String {
    String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
  }

  /// The first value of `key` in one of the kernel's `key : value` files.
  private static func value(of key: String, in path: String) -> String? {
    guard let stream = fopen(path, "r") else { return nil }
    defer { fclose(stream) }
    var line: UnsafeMutablePointer<CChar>?
    var capacity = 0
    defer { free(line) }
    while getline(&line, &capacity, stream) >= 0, let line {
      let parts = String(cString: line).split(separator: ":", maxSplits: 1)
      guard parts.count == 2, trimmed(parts[0]) == key else { continue }
      return trimmed(parts[1])
    }
    return nil
  }

  private static func trimmed(_ text: Substring) -> String {
    var text = text.drop(while: \.isWhitespace)
    while text.last?.isWhitespace == true { text.removeLast() }
    return String(text)
  }
}
