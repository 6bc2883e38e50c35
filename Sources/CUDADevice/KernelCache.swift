import CPUDevice
import CUDADriver
import Tensors

#if canImport(Glibc)
  import Glibc
#endif

/// The kernels, compiled for the GPU at hand and loaded.
///
/// Compiled files are kept in a folder, named after a hash of everything that decides them; a file appears there whole or
/// not at all, and one that does not load is compiled again.
final class KernelCache {
  private var functions: [String: UnsafeMutableRawPointer] = [:]
  /// Bytes of dynamic shared memory that kernels were allowed, where more than every kernel has.
  private var allowedBytes: [String: Int] = [:]
  private var modules: [Module] = []
  private let context: CUDAContext

  /// A loaded file and the kernels in it, where that is known.
  private struct Module {
    var handle: UnsafeMutableRawPointer
    var names: Set<String>?
  }

  /// Files that had to be compiled.
  private(set) var compiledCount = 0

  init(_ context: CUDAContext, _ libraries: CUDALibraries, folder: String) throws {
    self.context = context
    let architecture = KernelCompiler.architecture(capability: context.capability)
    let compiler = KernelCompiler(libraries)
    let sources = KernelSource.compiled
    // One slot per file, each written by the task that compiles it.
    let images = UnsafeMutablePointer<[UInt8]?>.allocate(capacity: sources.count)
    images.initialize(repeating: nil, count: sources.count)
    defer {
      images.deinitialize(count: sources.count)
      images.deallocate()
    }
    let paths = sources.map {
      "\(folder)/\($0.name)-\(architecture)-\(Self.hash($0, architecture, compiler?.version)).cubin"
    }
    var missing: [Int] = []
    for index in sources.indices {
      images[index] = Self.read(paths[index])
      if images[index].map({ load($0) != nil }) ?? true { missing.append(index) }
    }
    compiledCount = missing.count
    if !missing.isEmpty {
      guard let compiler else {
        let command = libraries.installCommand.map { "; install it with: \($0)" } ?? ""
        throw DeviceError("the GPU's kernels are not compiled yet, and libnvrtc is missing\(command)")
      }
      nonisolated(unsafe) let results = images
      let todo = missing
      try parallel(tasks: todo.count) { task in
        results[todo[task]] = try compiler.compile(sources[todo[task]], architecture: architecture).cubin
      }
      for index in missing {
        guard let image = images[index], let failure = load(image) else { continue }
        throw DeviceError("\(sources[index].name): the compiled kernels do not load: \(failure)")
      }
      // Without a place to keep them, the next start compiles again.
      for index in missing { if let image = images[index] { Self.write(image, to: paths[index]) } }
    }
  }

  deinit {
    context.enterForRelease()
    for module in modules { _ = context.driver.pointee.unloadModule(module.handle) }
  }

  /// The kernel of that name, allowed `sharedBytes` of dynamic shared memory; `isAllShared`: multiprocessors give it as little
  /// of their memory as first cache as they can, and so begin it beside another that is given as little.
  func function(_ name: String, sharedBytes: Int = 0, isAllShared: Bool = false) throws -> UnsafeMutableRawPointer {
    let function: UnsafeMutableRawPointer
    if let known = functions[name] {
      function = known
    } else {
      function = try find(name)
      if isAllShared {
        // 9: how much of a multiprocessor's memory is to be shared memory, in per cent.
        try context.check(
          context.driver.pointee.setFunctionAttribute(function, 9, 100), "giving \(name) all shared memory")
      }
      functions[name] = function
    }
    if sharedBytes > allowedBytes[name, default: 48 << 10] {
      // 8: the most dynamic shared memory.
      try context.check(
        context.driver.pointee.setFunctionAttribute(function, 8, Int32(sharedBytes)),
        "giving \(name) \(sharedBytes) bytes of shared memory")
      allowedBytes[name] = sharedBytes
    }
    return function
  }

  private func find(_ name: String) throws -> UnsafeMutableRawPointer {
    // A module that is asked for what it lacks reports an error to whoever watches.
    for module in modules where module.names?.contains(name) ?? true {
      var function: UnsafeMutableRawPointer?
      if context.driver.pointee.function(&function, module.handle, name) == 0, let function { return function }
    }
    throw DeviceError("there is no kernel \(name)")
  }

  /// Loads a compiled file; returns what went wrong.
  private func load(_ image: [UInt8]) -> String? {
    var module: UnsafeMutableRawPointer?
    let code = image.withUnsafeBytes { bytes in
      bytes.baseAddress.map { context.driver.pointee.loadModule(&module, $0) } ?? 1
    }
    guard code == 0, let module else { return "error \(code)" }
    modules.append(Module(handle: module, names: Self.kernelNames(in: image)))
    return nil
  }

  /// The kernels of an ELF file: what its sections of code are called after `.text.`; nil for another kind of file.
  private static func kernelNames(in image: [UInt8]) -> Set<String>? {
    guard image.starts(with: [0x7f, 0x45, 0x4c, 0x46]) else { return nil }
    let prefix = Array(".text.".utf8)
    var names: Set<String> = []
    var index = 0
    while index + prefix.count < image.count {
      if image[index] == prefix[0], image[index..<index + prefix.count].elementsEqual(prefix) {
        index += prefix.count
        let name = image[index...].prefix { $0 != 0 }
        names.insert(String(decoding: name, as: UTF8.self))
        index += name.count
      }
      index += 1
    }
    return names
  }

  // MARK: Files

  /// 128 bits of FNV-1a over the file, what it includes, the options and the compiler.
  private static func hash(_ source: KernelSource, _ architecture: String, _ version: String?) -> String {
    let parts =
      [source.name, source.text, version ?? ""] + KernelCompiler.options(architecture: architecture)
      + KernelSource.included.flatMap { [$0.name, $0.text] }
    func hash(_ start: UInt64) -> UInt64 {
      var value = start
      for part in parts {
        for byte in part.utf8 { value = (value ^ UInt64(byte)) &* 0x100_0000_01b3 }
        value = (value ^ 0xff) &* 0x100_0000_01b3
      }
      return value
    }
    func hexadecimal(_ value: UInt64) -> String {
      let digits = String(value, radix: 16)
      return String(repeating: "0", count: 16 - digits.count) + digits
    }
    return hexadecimal(hash(0xcbf2_9ce4_8422_2325)) + hexadecimal(hash(0x9ae1_6a3b_2f90_404f))
  }

  private static func read(_ path: String) -> [UInt8]? {
    guard let file = fopen(path, "rb") else { return nil }
    defer { fclose(file) }
    fseek(file, 0, SEEK_END)
    let size = ftell(file)
    guard size > 0 else { return nil }
    rewind(file)
    var bytes = [UInt8](repeating: 0, count: size)
    return fread(&bytes, 1, size, file) == size ? bytes : nil
  }

  private static func write(_ image: [UInt8], to path: String) {
    var folder = ""
    for part in path.split(separator: "/").dropLast() {
      folder += "/\(part)"
      mkdir(folder, 0o755)
    }
    let temporary = "\(path).\(getpid())"
    guard let file = fopen(temporary, "wb") else { return }
    let written = fwrite(image, 1, image.count, file) == image.count
    guard fclose(file) == 0, written, rename(temporary, path) == 0 else {
      unlink(temporary)
      return
    }
  }
}
