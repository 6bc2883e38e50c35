#if canImport(Glibc)
  import Glibc
#endif

/// A library of NVIDIA's that is opened at run time.
public enum CUDALibrary: String, Sendable, CaseIterable {
  /// The driver's API.
  case driver = "libcuda"
  /// The compiler of the kernels.
  case nvrtc = "libnvrtc"
  /// Matrix products.
  case cublasLt = "libcublasLt"
  /// Attention, where it is at hand.
  case cudnn = "libcudnn"
  /// Sums over several GPUs.
  case nccl = "libnccl"

  /// What gives it: a package of PyPI, but for the driver.
  public var package: String? {
    switch self {
    case .driver: nil
    case .nvrtc: "nvidia-cuda-nvrtc"
    case .cublasLt: "nvidia-cublas"
    case .cudnn: "nvidia-cudnn-cu13"
    case .nccl: "nvidia-nccl-cu13"
    }
  }

  /// Whether one GPU does without it.
  var isForSeveralGPUs: Bool { self == .nccl }

  /// The file that a dynamic loader would be asked for.
  func fileName(major: Int?) -> String { major.map { "\(rawValue).so.\($0)" } ?? "\(rawValue).so.1" }
}

/// Where NVIDIA's libraries may lie: a folder of the user's choice, the loader's path, a toolkit, the wheels of a Python
/// environment, and a folder of ours.
struct LibrarySearch {
  /// A file that may be the library, with what its name and package say of its version.
  struct Candidate {
    var path: String
    var version: [Int]
  }

  /// Folders to look into, in order; the newest library wins, and among equals the first.
  let folders: [String]

  init(environment: [String: String] = processEnvironment()) {
    var folders: [String] = []
    if let own = environment["SWIFTLET_CUDA_LIBRARIES"] { folders += own.split(separator: ":").map(String.init) }
    folders += (environment["LD_LIBRARY_PATH"] ?? "").split(separator: ":").map(String.init)
    folders += ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/local/nvidia/lib64"]
    for variable in ["CUDA_HOME", "CUDA_PATH"] {
      if let home = environment[variable] { folders.append(home + "/lib64") }
    }
    folders.append("/usr/local/cuda/lib64")
    // Python environments: the active one, those of the python3 on the path, the user's.
    var roots = [environment["VIRTUAL_ENV"], environment["CONDA_PREFIX"]].compactMap { $0 }
    for bin in (environment["PATH"] ?? "").split(separator: ":")
    where bin.hasSuffix("/bin") && access("\(bin)/python3", X_OK) == 0 {
      roots.append(String(bin.dropLast(4)))
    }
    if let home = environment["HOME"] { roots.append(home + "/.local") }
    let cache =
      environment["SWIFTLET_CACHE"] ?? (environment["XDG_CACHE_HOME"] ?? (environment["HOME"] ?? "") + "/.cache")
      + "/swiftlet"
    for root in roots {
      for kind in ["/lib", "/lib64", "/local/lib"] {
        for python in entries(of: root + kind) where python.hasPrefix("python3") {
          for packages in ["site-packages", "dist-packages"] {
            folders += Self.wheelFolders(in: "\(root)\(kind)/\(python)/\(packages)")
          }
        }
      }
    }
    // What `pip install --target ~/.cache/swiftlet/cuda` leaves.
    folders += Self.wheelFolders(in: cache + "/cuda") + [cache + "/cuda"]
    var seen: Set<String> = []
    self.folders = folders.filter { seen.insert($0).inserted }
  }

  private static func wheelFolders(in packages: String) -> [String] {
    entries(of: packages + "/nvidia").sorted(by: >).map { "\(packages)/nvidia/\($0)/lib" }
  }

  /// The library's files, the newest first.
  func candidates(_ library: CUDALibrary) -> [Candidate] {
    var found: [Candidate] = []
    for folder in folders {
      let names = entries(of: folder).filter { $0.hasPrefix(library.rawValue + ".so.") }
      // Of libnvrtc.so.13 and libnvrtc.so.13.0.88 the shorter name is the one that others link against.
      guard let name = names.min(by: { ($0.count, $1) < ($1.count, $0) }) else { continue }
      let path = "\(folder)/\(name)"
      let versions = names.map { numbers($0.dropFirst(library.rawValue.count + 4)) } + [packageVersion(library, folder)]
      found.append(Candidate(path: path, version: versions.max { $0.lexicographicallyPrecedes($1) } ?? []))
    }
    return found.enumerated().sorted { one, two in
      if one.element.version == two.element.version { return one.offset < two.offset }
      return two.element.version.lexicographicallyPrecedes(one.element.version)
    }.map(\.element)
  }

  /// The version of the wheel that `folder` belongs to: its `.dist-info` lies beside `nvidia`.
  private func packageVersion(_ library: CUDALibrary, _ folder: String) -> [Int] {
    let parts = folder.split(separator: "/", omittingEmptySubsequences: false)
    guard parts.count > 3, parts[parts.count - 3] == "nvidia", let package = library.package else { return [] }
    let packages = parts.dropLast(3).joined(separator: "/")
    let prefix = String(package.map { $0 == "-" ? "_" : $0 })
    for entry in entries(of: packages) where entry.hasPrefix(prefix) && entry.hasSuffix(".dist-info") {
      let rest = entry.dropFirst(prefix.count).drop { $0 != "-" }.dropFirst().dropLast(".dist-info".count)
      let version = numbers(rest)
      if !version.isEmpty { return version }
    }
    return []
  }
}

/// The numbers of a version text, up to the first part that is none.
private func numbers(_ text: Substring) -> [Int] {
  var result: [Int] = []
  for part in text.split(separator: ".") {
    guard let number = Int(part) else { break }
    result.append(number)
  }
  return result
}

/// A folder's entries; none where there is no folder.
private func entries(of folder: String) -> [String] {
  guard let directory = opendir(folder) else { return [] }
  defer { closedir(directory) }
  var names: [String] = []
  while let entry = readdir(directory) {
    let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
      String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    }
    if name != ".", name != ".." { names.append(name) }
  }
  return names
}

/// The environment of this process.
func processEnvironment() -> [String: String] {
  var result: [String: String] = [:]
  var entry = environ
  while let text = entry.pointee {
    let parts = String(cString: text).split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
    if parts.count == 2 { result[String(parts[0])] = String(parts[1]) }
    entry += 1
  }
  return result
}
