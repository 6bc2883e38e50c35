import CUDADriver
import Tensors

#if canImport(Glibc)
  import Glibc
#endif

/// NVIDIA's libraries as this process found them.
public final class CUDALibraries: @unchecked Sendable {
  /// What became of one library.
  public struct Finding: Sendable {
    /// Which library.
    public var library: CUDALibrary
    /// Where it lies; nil where it was not found.
    public var path: String?
    /// What it says of its version.
    public var version: String?
    /// Why it cannot be used.
    public var problem: String?
  }

  /// One finding per library.
  public let findings: [Finding]
  /// Why nothing can run on a GPU here; nil when something can.
  public let problem: String?
  let driver: UnsafePointer<sl_driver>?
  let nvrtc: UnsafePointer<sl_nvrtc>?
  let cublasLt: UnsafePointer<sl_cublaslt>?
  let cudnn: UnsafePointer<sl_cudnn>?
  let nccl: UnsafePointer<sl_nccl>?

  /// What was found by looking once, at the first use.
  public static let found = CUDALibraries(LibrarySearch())

  /// The command that installs what is missing; nil where nothing is, or only a driver.
  public var installCommand: String? {
    let missing = findings.filter { $0.problem != nil && !$0.library.isForSeveralGPUs }.compactMap(\.library.package)
    return missing.isEmpty
      ? nil : "python3 -m pip install --target ~/.cache/swiftlet/cuda \(missing.joined(separator: " "))"
  }

  /// Opens what `search` finds.
  convenience init(_ search: LibrarySearch) {
    var paths: [CUDALibrary: String] = [:]
    // The driver limits the others' major version.
    var newest = Int.max
    self.init { library in
      let candidates = search.candidates(library)
      if library == .driver {
        let opened = SharedObject.open([library.fileName(major: nil)] + candidates.map(\.path))
        if let opened, let version = Self.integer(opened, "cuDriverGetVersion") { newest = version / 1000 }
        paths[library] = opened?.path
        return opened
      }
      let usable = candidates.filter { ($0.version.first ?? 0) <= newest }.map(\.path)
      // NVRTC looks for its builtins by name alone: they must be in the process before.
      if library == .nvrtc, let path = usable.first { SharedObject.openBuiltins(beside: path) }
      let majors =
        switch library {
        case .cudnn: [9]
        case .nccl: [2]
        default: [13, 12]
        }
      return SharedObject.open(usable + majors.map { library.fileName(major: $0) })
    }
  }

  /// Takes the libraries from `open`, which gives each one's symbols.
  init(open: (CUDALibrary) -> (any SymbolSource)?) {
    var findings: [Finding] = []
    func resolve<Functions>(
      _ library: CUDALibrary,
      _ fill: (UnsafeMutablePointer<Functions>, sl_resolver, UnsafeMutableRawPointer?) -> UnsafePointer<CChar>?,
      version: (Functions) -> String?
    ) -> UnsafePointer<Functions>? {
      guard let source = open(library) else {
        findings.append(
          Finding(library: library, problem: library.isForSeveralGPUs ? "not found (one GPU needs none)" : "not found"))
        return nil
      }
      let functions = UnsafeMutablePointer<Functions>.allocate(capacity: 1)
      // The structure lives as long as the process, as the library does.
      let box = Unmanaged.passRetained(SymbolBox(source))
      let missing = fill(
        functions,
        { context, symbol in
          guard let context else { return nil }
          return Unmanaged<SymbolBox>.fromOpaque(context).takeUnretainedValue().source.symbol(symbol)
        }, box.toOpaque())
      if let missing {
        functions.deallocate()
        findings.append(
          Finding(library: library, path: source.path, problem: "too old: it lacks \(String(cString: missing))"))
        return nil
      }
      findings.append(Finding(library: library, path: source.path, version: version(functions.pointee)))
      return UnsafePointer(functions)
    }
    driver = resolve(.driver, { sl_resolve_driver($0, $1, $2) }) { driver in
      var version: Int32 = 0
      return driver.driverVersion(&version) == 0 ? "CUDA \(version / 1000).\(version % 1000 / 10)" : nil
    }
    nvrtc = resolve(.nvrtc, { sl_resolve_nvrtc($0, $1, $2) }) { nvrtc in
      var (major, minor): (Int32, Int32) = (0, 0)
      return nvrtc.version(&major, &minor) == 0 ? "\(major).\(minor)" : nil
    }
    cublasLt = resolve(.cublasLt, { sl_resolve_cublaslt($0, $1, $2) }) { cublasLt in
      let version = cublasLt.version()
      return "\(version / 10000).\(version / 100 % 100).\(version % 100)"
    }
    cudnn = resolve(.cudnn, { sl_resolve_cudnn($0, $1, $2) }) { cudnn in
      let version = cudnn.version()
      return "\(version / 10000).\(version / 100 % 100).\(version % 100)"
    }
    nccl = resolve(.nccl, { sl_resolve_nccl($0, $1, $2) }) { nccl in
      var version: Int32 = 0
      return nccl.version(&version) == 0 ? "\(version / 10000).\(version / 100 % 100).\(version % 100)" : nil
    }
    self.findings = findings
    problem =
      if driver == nil {
        "no NVIDIA driver (libcuda.so.1)"
      } else {
        driver.flatMap { Self.deviceProblem($0.pointee) }
      }
  }

  /// Why the driver has no GPU for us.
  private static func deviceProblem(_ driver: sl_driver) -> String? {
    let code = driver.start(0)
    guard code == 0 else { return "the NVIDIA driver does not start (error \(code))" }
    var count: Int32 = 0
    return driver.deviceCount(&count) == 0 && count > 0 ? nil : "no NVIDIA GPU"
  }

  private static func integer(_ object: SharedObject, _ symbol: String) -> Int? {
    guard let address = object.symbol(symbol) else { return nil }
    typealias Version = @convention(c) (UnsafeMutablePointer<Int32>) -> Int32
    var value: Int32 = 0
    return unsafeBitCast(address, to: Version.self)(&value) == 0 ? Int(value) : nil
  }
}

/// Something that functions come from.
protocol SymbolSource: AnyObject {
  /// Where it lies, for people.
  var path: String? { get }
  /// A function's address.
  func symbol(_ name: UnsafePointer<CChar>) -> UnsafeMutableRawPointer?
}

private final class SymbolBox {
  let source: any SymbolSource
  init(_ source: any SymbolSource) { self.source = source }
}

/// A library that stays open until the process ends: NVIDIA's do not like to be closed.
final class SharedObject: SymbolSource {
  let path: String?
  private let handle: UnsafeMutableRawPointer

  private init(path: String, handle: UnsafeMutableRawPointer) {
    self.handle = handle
    self.path = path
  }

  /// The first of `paths` that opens.
  static func open(_ paths: [String]) -> SharedObject? {
    for path in paths {
      if let handle = dlopen(path, RTLD_NOW | RTLD_LOCAL) { return SharedObject(path: path, handle: handle) }
    }
    return nil
  }

  /// Opens `libnvrtc-builtins` in the folder of `path`.
  static func openBuiltins(beside path: String) {
    guard let slash = path.lastIndex(of: "/") else { return }
    let folder = String(path[..<slash])
    guard let directory = opendir(folder) else { return }
    defer { closedir(directory) }
    while let entry = readdir(directory) {
      let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
        String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
      }
      if name.hasPrefix("libnvrtc-builtins.so.") { _ = dlopen("\(folder)/\(name)", RTLD_NOW | RTLD_GLOBAL) }
    }
  }

  func symbol(_ name: UnsafePointer<CChar>) -> UnsafeMutableRawPointer? { dlsym(handle, name) }
}
