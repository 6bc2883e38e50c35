import CUDADriver
import Tensors

#if canImport(Glibc)
  import Glibc
#endif

/// A GPU, its primary context and the one stream that everything runs in.
///
/// The primary context is the one that cuBLASLt uses as well. A context is current in a thread, not in a process: ``enter()``
/// stands at the beginning of whatever calls the driver.
final class CUDAContext: @unchecked Sendable {
  let driver: UnsafePointer<sl_driver>
  let stream: UnsafeMutableRawPointer
  /// "NVIDIA H200".
  let name: String
  /// 90 for compute capability 9.0.
  let capability: Int
  /// Streaming multiprocessors.
  let multiprocessors: Int
  /// Bytes of shared memory that a block may ask for.
  let sharedMemory: Int
  /// Bytes of shared memory that the blocks of one multiprocessor share.
  let multiprocessorMemory: Int
  /// Dynamic shared memory of which two blocks do not fit a multiprocessor; nil where a block may not ask for as much.
  ///
  /// Of kernels that overlap, every multiprocessor is to get one block: two of one's blocks would else come to one and none to
  /// another.
  var overHalf: Int? {
    let bytes = multiprocessorMemory / 2 - 1024 + 8
    return bytes <= sharedMemory ? bytes : nil
  }
  private let device: Int32
  private let context: UnsafeMutableRawPointer
  private var thread: pthread_t?

  init(_ libraries: CUDALibraries, ordinal: Int = 0) throws {
    if let problem = libraries.problem { throw DeviceError("\(problem): the GPU cannot be used") }
    guard let driver = libraries.driver else { throw DeviceError("no NVIDIA driver") }
    self.driver = driver
    let functions = driver.pointee
    func check(_ code: Int32, _ action: String) throws {
      if code != 0 { throw Self.error(functions, code, action) }
    }
    var device: Int32 = 0
    try check(functions.device(&device, Int32(clamping: ordinal)), "opening GPU \(ordinal)")
    func attribute(_ number: Int32) throws -> Int {
      var value: Int32 = 0
      try check(functions.deviceAttribute(&value, number, device), "asking the GPU for attribute \(number)")
      return Int(value)
    }
    capability = try attribute(75) * 10 + attribute(76)
    multiprocessors = try attribute(16)
    sharedMemory = try attribute(97)
    multiprocessorMemory = try attribute(81)
    var characters = [CChar](repeating: 0, count: 256)
    try check(functions.deviceName(&characters, 256, device), "asking for the GPU's name")
    name = characters.withUnsafeBytes { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    guard capability >= 80 else {
      throw DeviceError("\(name) has no bf16 (compute capability \(capability / 10).\(capability % 10), 8.0 is needed)")
    }
    var context: UnsafeMutableRawPointer?
    try check(functions.retainContext(&context, device), "making a context on \(name)")
    guard let context else { throw DeviceError("\(name) gave no context") }
    try check(functions.setContext(context), "entering \(name)'s context")
    var stream: UnsafeMutableRawPointer?
    // 1: not ordered with the default stream, which nothing uses.
    try check(functions.createStream(&stream, 1), "making a stream")
    guard let stream else { throw DeviceError("\(name) gave no stream") }
    self.device = device
    self.context = context
    self.stream = stream
    thread = pthread_self()
  }

  deinit {
    _ = driver.pointee.setContext(context)
    _ = driver.pointee.synchronize(stream)
    _ = driver.pointee.destroyStream(stream)
    _ = driver.pointee.releaseContext(device)
  }

  /// Makes the context current in this thread.
  func enter() throws {
    let current = pthread_self()
    if let thread, pthread_equal(thread, current) != 0 { return }
    try check(driver.pointee.setContext(context), "entering \(name)'s context")
    thread = current
  }

  /// Makes the context current for a release, which may happen in any thread and cannot fail.
  func enterForRelease() {
    _ = driver.pointee.setContext(context)
    thread = pthread_self()
  }

  /// Turns a driver's code into an error.
  func check(_ code: Int32, _ action: @autoclosure () -> String) throws {
    if code != 0 { throw Self.error(driver.pointee, code, action()) }
  }

  /// Free and total bytes of the GPU.
  func memory() throws -> (free: Int, total: Int) {
    var (free, total) = (0, 0)
    try check(driver.pointee.memory(&free, &total), "asking for the free memory")
    return (free, total)
  }

  func synchronize() throws { try check(driver.pointee.synchronize(stream), "waiting for \(name)") }

  private static func error(_ driver: sl_driver, _ code: Int32, _ action: String) -> DeviceError {
    var name: UnsafePointer<CChar>?
    var text: UnsafePointer<CChar>?
    _ = driver.errorName(code, &name)
    _ = driver.errorText(code, &text)
    let words = [name, text].compactMap { $0.map { String(cString: $0) } }.joined(separator: ": ")
    return DeviceError("CUDA: \(action) failed with error \(code)\(words.isEmpty ? "" : " (\(words))")")
  }
}
