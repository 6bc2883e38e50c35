import TestSupport
import Testing

@testable import CUDADevice

#if canImport(Glibc)
  import Glibc
#endif

/// Which of several copies of a library is taken.
@Suite struct LibrarySearchTests {
  private func touch(_ path: String) {
    var folder = ""
    for part in path.split(separator: "/").dropLast() {
      folder += "/\(part)"
      mkdir(folder, 0o755)
    }
    if let file = fopen(path, "w") { fclose(file) }
  }

  @Test func theNewestWinsWhereverItLies() throws {
    let root = try TemporaryFolder()
    touch("\(root.path)/toolkit/lib64/libcublasLt.so.12")
    touch("\(root.path)/toolkit/lib64/libcublasLt.so.12.8.4.1")
    let packages = "\(root.path)/venv/lib/python3.12/site-packages"
    touch("\(packages)/nvidia/cu13/lib/libcublasLt.so.13")
    touch("\(packages)/nvidia_cublas-13.1.0.3.dist-info/METADATA")
    touch("\(root.path)/cache/cuda/nvidia/cu13/lib/libcublasLt.so.13")
    touch("\(root.path)/cache/cuda/nvidia_cublas-13.0.2.14.dist-info/METADATA")
    let search = LibrarySearch(environment: [
      "CUDA_HOME": "\(root.path)/toolkit", "VIRTUAL_ENV": "\(root.path)/venv", "SWIFTLET_CACHE": "\(root.path)/cache",
    ])
    let found = search.candidates(.cublasLt).filter { $0.path.hasPrefix(root.path) }
    #expect(
      found.map { String($0.path.dropFirst(root.path.utf8.count)) } == [
        "/venv/lib/python3.12/site-packages/nvidia/cu13/lib/libcublasLt.so.13",
        "/cache/cuda/nvidia/cu13/lib/libcublasLt.so.13", "/toolkit/lib64/libcublasLt.so.12",
      ])
    #expect(found.map(\.version) == [[13, 1, 0, 3], [13, 0, 2, 14], [12, 8, 4, 1]])
  }

  @Test func withoutADriverNothingElseMatters() {
    let libraries = CUDALibraries { _ in nil }
    #expect(libraries.problem?.contains("no NVIDIA driver") == true)
    #expect(libraries.installCommand?.hasSuffix("nvidia-cuda-nvrtc nvidia-cublas nvidia-cudnn-cu13") == true)
    #expect(throws: (any Error).self) { try CUDADevice(libraries) }
  }
}
