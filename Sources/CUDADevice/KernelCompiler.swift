import CUDADriver
import CUDAKernels
import Tensors

/// One of the kernels' files, as it stands in the package.
struct KernelSource: Sendable {
  let name: String
  let text: String

  /// Every file; those that end in `.cu` are compiled, the others are included.
  static let all: [KernelSource] = {
    var sources: [KernelSource] = []
    var entry = UnsafePointer(sl_kernel_sources_begin())
    while let name = entry?.pointee.name, let text = entry?.pointee.text {
      sources.append(KernelSource(name: String(cString: name), text: String(cString: text)))
      entry = entry?.advanced(by: 1)
    }
    return sources
  }()

  static let compiled = all.filter { $0.name.hasSuffix(".cu") }
  static let included = all.filter { !$0.name.hasSuffix(".cu") }
}

/// NVRTC: CUDA C++ to machine code, on any machine, with or without a GPU.
struct KernelCompiler: Sendable {
  /// What came out of one file.
  struct Output {
    var cubin: [UInt8]
    /// What ptxas says of registers, shared memory and spills, and any warning.
    var log: String
  }

  let version: String
  nonisolated(unsafe) private let nvrtc: UnsafePointer<sl_nvrtc>

  /// A compiler, where NVRTC was found.
  init?(_ libraries: CUDALibraries) {
    guard let nvrtc = libraries.nvrtc else { return nil }
    self.nvrtc = nvrtc
    var (major, minor): (Int32, Int32) = (0, 0)
    _ = nvrtc.pointee.version(&major, &minor)
    version = "\(major).\(minor)"
  }

  /// The options that every file is compiled with.
  static func options(architecture: String) -> [String] {
    ["--gpu-architecture=\(architecture)", "--std=c++17", "--ptxas-options=-v"]
  }

  /// The architecture's name for a compute capability: 9.0 has instructions that only `sm_90a` names.
  static func architecture(capability: Int) -> String { capability == 90 ? "sm_90a" : "sm_\(capability)" }

  /// Compiles one file for one architecture.
  func compile(_ source: KernelSource, architecture: String) throws -> Output {
    let api = nvrtc.pointee
    var program: UnsafeMutableRawPointer?
    func check(_ code: Int32, _ action: String, _ log: String = "") throws {
      guard code != 0 else { return }
      let first = log.split(separator: "\n").first { $0.contains("error") } ?? ""
      throw DeviceError(
        "NVRTC \(version): \(action) \(source.name) for \(architecture) failed with error \(code)\(first.isEmpty ? "" : ": \(first)")"
      )
    }
    let headers = KernelSource.included
    try withCStrings(headers.map(\.text)) { texts in
      try withCStrings(headers.map(\.name)) { names in
        try check(
          api.createProgram(&program, source.text, source.name, Int32(headers.count), texts, names), "reading")
      }
    }
    defer { _ = api.destroyProgram(&program) }
    guard let program else { throw DeviceError("NVRTC made no program of \(source.name)") }
    let options = Self.options(architecture: architecture)
    let status = withCStrings(options) { api.compile(program, Int32(options.count), $0) }
    var size = 0
    try check(api.logSize(program, &size), "compiling")
    var characters = [CChar](repeating: 0, count: max(size, 1))
    try check(api.log(program, &characters), "compiling")
    let log = characters.withUnsafeBytes { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    try check(status, "compiling", log)
    try check(api.cubinSize(program, &size), "compiling")
    var cubin = [CChar](repeating: 0, count: size)
    try check(api.cubin(program, &cubin), "compiling")
    return Output(cubin: cubin.map { UInt8(bitPattern: $0) }, log: log)
  }
}

/// Calls `body` with C's array of C's strings.
private func withCStrings<Result>(
  _ strings: [String], _ body: (UnsafePointer<UnsafePointer<CChar>?>?) throws -> Result
) rethrows -> Result {
  let bytes = strings.map { Array($0.utf8CString) }
  let all = UnsafeMutableBufferPointer<CChar>.allocate(capacity: max(1, bytes.reduce(0) { $0 + $1.count }))
  defer { all.deallocate() }
  var pointers: [UnsafePointer<CChar>?] = []
  var offset = 0
  for string in bytes {
    for (index, byte) in string.enumerated() { all[offset + index] = byte }
    pointers.append(all.baseAddress.map { UnsafePointer($0 + offset) })
    offset += string.count
  }
  return try pointers.withUnsafeBufferPointer { try body($0.baseAddress) }
}
