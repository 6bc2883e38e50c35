// The documentation of what this implements stands in `Device`.
// swift-format-ignore-file: AllPublicDeclarationsHaveDocumentation

import CPUDevice
import CUDADriver
import Tensors

#if canImport(Glibc)
  import Glibc
#endif

/// An NVIDIA GPU from compute capability 8.0 on: cuBLASLt for matrix products, kernels of our own for the rest.
///
/// Matrix operands and kept activations are bf16, sums, the residual stream and its gradient fp32. Everything runs in one
/// stream, in the order of the calls; only what returns a value to the host waits.
public final class CUDADevice: Device, @unchecked Sendable {
  public let computeType = DType.bfloat16
  public let residualType = DType.float32
  public let rowAlignment = 64
  let context: CUDAContext
  let kernels: KernelCache
  private let libraries: CUDALibraries
  private var staging: Staging?
  private(set) var products: ProductPlans?
  private(set) var attentionPlans: AttentionPlans?
  private(set) lazy var arrays = HostArrays { [unowned self] in try self.upload($0, into: $1) }
  private var scratch: [Scratch: DeviceBuffer] = [:]
  var frozenMemory = FrozenMemory()
  /// Bytes of a tile of a head that is opened some rows at a time.
  var headTileBytes = 128 << 20
  /// Counts how often memory that operations know by its address has moved: what was recorded before is worth nothing then.
  public var moves = 0
  /// Whether a kernel's blocks may begin before the kernel before has ended.
  let overlapsLaunches: Bool
  /// Blocks of the kernel that was launched last: where every multiprocessor got one, the next one's may come evenly beside them.
  var blocksBefore = 0
  let allowsRecordings: Bool
  /// Weights that take turns are copied by a stream of their own, which no recording holds.
  public var recordsSteps: Bool { allowsRecordings && activeStream == nil }
  /// Who times what the device does, if anybody.
  weak var timer: CUDATimer?
  /// The matrices that lie in the place for opened ones.
  var openGroup: OpenGroup?
  /// The stream whose segment was used last, while nothing else was.
  weak var activeStream: CUDAMatrixStream?
  /// Maps of double quantization that were uploaded.
  var maps: [(values: [Float], tensor: Tensor)] = []

  /// Bytes allocated now and at most.
  public private(set) var allocatedBytes = 0
  public private(set) var peakBytes = 0
  private var memoryLimit: Int?

  /// The first GPU, with the libraries that were found.
  ///
  /// Kernels are compiled at the first start and kept in `kernelFolder` (~/.cache/swiftlet/kernels unless given).
  ///
  /// `isDeterministic`: the same calls give the same bits, also where a library's faster way does not.
  public convenience init(kernelFolder: String? = nil, isDeterministic: Bool = false) throws {
    try self.init(.found, kernelFolder: kernelFolder, isDeterministic: isDeterministic)
  }

  init(_ libraries: CUDALibraries, kernelFolder: String? = nil, isDeterministic: Bool = false) throws {
    self.libraries = libraries
    context = try CUDAContext(libraries)
    allowsRecordings = processEnvironment()["SWIFTLET_RECORD"] != "0"
    overlapsLaunches = context.capability >= 90 && processEnvironment()["SWIFTLET_OVERLAP"] != "0"
    kernels = try KernelCache(context, libraries, folder: kernelFolder ?? Self.defaultKernelFolder)
    products = try ProductPlans(context, libraries, workspace: allocate(byteCount: ProductPlans.workspaceBytes))
    // cuDNN sums the gradient of q in the order in which blocks end; its other way takes memory that grows with the square
    // of the length. Our kernels have one order.
    if processEnvironment()["SWIFTLET_CUDNN"] != "0", !isDeterministic {
      attentionPlans = AttentionPlans(context, libraries)
    }
  }

  private static var defaultKernelFolder: String {
    let environment = processEnvironment()
    if let folder = environment["SWIFTLET_CACHE"] { return folder + "/kernels" }
    if let folder = environment["XDG_CACHE_HOME"] { return folder + "/swiftlet/kernels" }
    return (environment["HOME"] ?? "/tmp") + "/.cache/swiftlet/kernels"
  }

  public var description: String {
    func version(_ library: CUDALibrary) -> String? { libraries.findings.first { $0.library == library }?.version }
    let products = version(.cublasLt).map { "cuBLASLt \($0)" } ?? "no cuBLASLt"
    let attention = attentionPlans == nil ? "own attention" : version(.cudnn).map { "cuDNN \($0)" } ?? "cuDNN"
    let capability = "\(context.capability / 10).\(context.capability % 10)"
    return "\(context.name) (compute capability \(capability), bfloat16, \(products), \(attention))"
  }

  /// Kernel files that had to be compiled at this start.
  public var compiledKernelFiles: Int { kernels.compiledCount }

  // MARK: Memory

  public func allocate(byteCount: Int) throws -> DeviceBuffer {
    try context.enter()
    let bytes = (max(byteCount, 1) + 255) / 256 * 256
    if let memoryLimit, allocatedBytes + bytes > memoryLimit {
      throw DeviceError(
        "over the memory limit: \(bytes >> 20) MiB asked for, \(allocatedBytes >> 20) of \(memoryLimit >> 20) MiB in use; "
          + "raise --memory, or lower --batch-size or --max-seq-length")
    }
    var address: UInt64 = 0
    let code = context.driver.pointee.allocate(&address, bytes)
    if code == 2 {
      let (free, total) = try context.memory()
      throw DeviceError(
        "out of memory on \(context.name): \(bytes >> 20) MiB asked for, \(free >> 20) of \(total >> 20) MiB free; lower "
          + "--batch-size or --max-seq-length, or use --recompute all")
    }
    try context.check(code, "allocating \(bytes >> 20) MiB")
    allocatedBytes += bytes
    peakBytes = max(peakBytes, allocatedBytes)
    return DeviceBuffer(address: UInt(address), byteCount: bytes) { [weak self, context] address in
      context.enterForRelease()
      _ = context.driver.pointee.release(UInt64(address))
      self?.allocatedBytes -= bytes
    }
  }

  public var memory: DeviceMemory? {
    guard (try? context.enter()) != nil, let (free, total) = try? context.memory() else { return nil }
    return DeviceMemory(
      used: allocatedBytes, peak: peakBytes, free: free, taken: total - free)
  }

  public func limitMemory(to limit: Int?) { memoryLimit = limit }

  public func resetPeak() { peakBytes = allocatedBytes }

  public func upload(_ source: UnsafeRawBufferPointer, to tensor: Tensor) throws {
    assert(source.count == tensor.byteCount)
    try context.enter()
    guard let from = source.baseAddress, tensor.count > 0 else { return }
    let width = tensor.isDense ? tensor.byteCount : tensor.columns * tensor.dtype.byteCount
    let pitch = tensor.rowStride * tensor.dtype.byteCount
    let staging = try ring()
    for row in 0..<(tensor.isDense ? 1 : tensor.rows) {
      for start in stride(from: 0, to: width, by: Staging.pieceBytes) {
        let count = min(Staging.pieceBytes, width - start)
        let piece = try staging.piece(count).host
        try copyInParallel(from + row * width + start, to: piece, count)
        try context.check(
          context.driver.pointee.copyIn(
            UInt64(tensor.address) + UInt64(row * pitch + start), piece, count, context.stream), "copying to the GPU")
      }
    }
  }

  /// Copies host memory, large pieces on several threads: one alone is slower than the bus.
  private func copyInParallel(_ from: UnsafeRawPointer, to: UnsafeMutableRawPointer, _ count: Int) throws {
    let share = 512 << 10
    guard count > 2 * share else { return to.copyMemory(from: from, byteCount: count) }
    nonisolated(unsafe) let (from, to) = (from, to)
    try parallel(tasks: (count + share - 1) / share) { task in
      let start = task * share
      (to + start).copyMemory(from: from + start, byteCount: min(share, count - start))
    }
  }

  public func download(_ tensor: Tensor, to destination: UnsafeMutableRawBufferPointer) throws {
    assert(destination.count == tensor.byteCount)
    try context.enter()
    guard let to = destination.baseAddress, tensor.count > 0 else { return }
    if tensor.isDense {
      try context.check(
        context.driver.pointee.copyOut(to, UInt64(tensor.address), tensor.byteCount, context.stream),
        "copying from the GPU")
    } else {
      let width = tensor.columns * tensor.dtype.byteCount
      var copy = sl_row_copy()
      copy.sourceKind = 2  // the GPU
      copy.sourceDevice = UInt64(tensor.address)
      copy.sourcePitch = tensor.rowStride * tensor.dtype.byteCount
      copy.targetKind = 1  // the host
      copy.targetHost = to
      copy.targetPitch = width
      copy.width = width
      copy.height = tensor.rows
      try context.check(context.driver.pointee.copyRows(&copy, context.stream), "copying from the GPU")
    }
    try context.synchronize()
  }

  public func zero(_ tensor: Tensor) throws {
    try context.enter()
    guard tensor.count > 0 else { return }
    let width = tensor.columns * tensor.dtype.byteCount
    if tensor.isDense {
      try context.check(
        context.driver.pointee.fill(UInt64(tensor.address), 0, tensor.byteCount, context.stream), "clearing memory")
    } else {
      try context.check(
        context.driver.pointee.fillRows(
          UInt64(tensor.address), tensor.rowStride * tensor.dtype.byteCount, 0, width, tensor.rows, context.stream),
        "clearing memory")
    }
  }

  public func concurrently(tasks: Int, _ body: @Sendable (Int) throws -> Void) throws {
    try parallel(tasks: tasks, body)
  }

  public func synchronize() throws {
    try context.enter()
    try context.synchronize()
  }

  // MARK: Parts

  /// Pinned memory, made when first needed.
  func ring() throws -> Staging {
    if let staging { return staging }
    let made = try Staging(context, mirror: allocate(byteCount: Staging.byteCount))
    staging = made
    return made
  }

  /// What an operation needs memory for that no caller keeps.
  enum Scratch {
    case rowLosses, partialSums, dropped, through, attention, openMatrices, absmax, nf4Error, nf4Trial
    case rowSlices, adapterSums, attentionSplits, splitsDone, bestTokens
  }

  /// Memory of at least `byteCount` bytes that lives until the next call for the same purpose.
  func scratch(_ purpose: Scratch, byteCount: Int) throws -> DeviceBuffer {
    if let buffer = scratch[purpose], buffer.byteCount >= byteCount { return buffer }
    scratch[purpose] = nil
    moves += 1
    let buffer = try allocate(byteCount: byteCount)
    scratch[purpose] = buffer
    return buffer
  }

  /// Gives back what a purpose's memory took.
  func releaseScratch(_ purpose: Scratch) { scratch[purpose] = nil }

  private func upload(_ values: [Int32], into old: Tensor?) throws -> Tensor {
    let tensor: Tensor
    if let old, old.buffer.byteCount >= values.count * 4 {
      tensor = Tensor(old.buffer, rows: 1, columns: values.count, dtype: .int32)
    } else {
      tensor = Tensor(
        try allocate(byteCount: max(values.count, 256) * 4), rows: 1, columns: values.count, dtype: .int32)
    }
    try values.withUnsafeBytes { try upload($0, to: tensor) }
    return tensor
  }
}
