// The documentation of what this implements stands in `Device`.
// swift-format-ignore-file: AllPublicDeclarationsHaveDocumentation

import CPUKernels
import Tensors

#if canImport(Glibc)
  import Glibc
#endif

/// The CPU: oneDNN for matrix products, C kernels for the rest, both on one pool of threads.
///
/// With ``Compute/bfloat16`` operands of matrix products and kept activations are bf16 and everything is accumulated in
/// fp32; the residual stream and its gradient are fp32 either way. Use it from one thread at a time: libgomp keeps a pool
/// of workers per calling thread.
public final class CPUDevice: Device, @unchecked Sendable {
  /// How matrix operands are kept.
  public enum Compute: Sendable {
    /// bf16 where the CPU multiplies it natively (AVX512-BF16 or AMX), else fp32.
    case automatic
    case bfloat16
    case float32
  }

  public let computeType: DType
  public let residualType = DType.float32
  public let rowAlignment = 32
  let kernelType: sl_dtype
  private var scratch: [Scratch: DeviceBuffer] = [:]
  /// Where matrices in NF4 are dequantized, one for each of a product.
  let dequantized = (0..<sl_linear_most_parts).map { _ in DequantizedSlot() }

  /// A device that computes in `compute`; `threads` nil: SWIFTLET_THREADS, else the CPUs this process may run on.
  public init(compute: Compute = .automatic, threads: Int? = nil) {
    if let threads { sl_set_thread_count(Int32(clamping: threads)) }
    let native = sl_has_avx512bf16() != 0
    computeType =
      switch compute {
      case .automatic: native ? .bfloat16 : .float32
      case .bfloat16: .bfloat16
      case .float32: .float32
      }
    kernelType = computeType == .bfloat16 ? SL_BF16 : SL_F32
  }

  /// The threads that work on the host runs on.
  public static var threadCount: Int { Int(sl_thread_count()) }
  /// Sets their number, for every device of the process.
  public static func useThreads(_ count: Int) { sl_set_thread_count(Int32(clamping: count)) }

  public var description: String {
    let path =
      switch sl_current_path() {
      case SL_PATH_AVX512BF16: "avx512-bf16"
      case SL_PATH_AVX512: "avx512"
      case SL_PATH_AVX2: "avx2"
      default: "generic"
      }
    let count = Self.threadCount
    let threads = count == 1 ? "1 thread" : "\(count) threads"
    return "CPU (\(threads), \(path), \(computeType), \(String(cString: sl_matmul_library())))"
  }

  // MARK: Memory

  public func allocate(byteCount: Int) throws -> DeviceBuffer {
    try map(byteCount: byteCount, flags: MAP_PRIVATE | MAP_ANONYMOUS, inHugePages: byteCount >= 1 << 22)
  }

  /// Small pages, each of which is taken when it is first written to, and no promise that there will be memory for all.
  public func allocateGrowing(byteCount: Int) throws -> DeviceBuffer {
    try map(byteCount: byteCount, flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, inHugePages: false)
  }

  private func map(byteCount: Int, flags: Int32, inHugePages: Bool) throws -> DeviceBuffer {
    // Mapped, not malloc'd: large blocks go back to the system when freed, and untouched pages cost nothing.
    guard let address = mmap(nil, max(byteCount, 1), PROT_READ | PROT_WRITE, flags, -1, 0), address != MAP_FAILED
    else {
      throw DeviceError(
        "out of memory: \(byteCount / 1_048_576) MiB asked for; lower --batch-size or --max-seq-length, or use --recompute all"
      )
    }
    madvise(address, max(byteCount, 1), inHugePages ? MADV_HUGEPAGE : MADV_NOHUGEPAGE)
    let mapped = max(byteCount, 1)
    return DeviceBuffer(address: UInt(bitPattern: address), byteCount: mapped) { address in
      munmap(UnsafeMutableRawPointer(bitPattern: address), mapped)
    }
  }

  public func upload(_ source: UnsafeRawBufferPointer, to tensor: Tensor) throws {
    assert(source.count == tensor.byteCount)
    let rowBytes = tensor.columns * tensor.dtype.byteCount
    guard let from = source.baseAddress, let to = tensor.pointer else { return }
    for row in 0..<tensor.rows {
      (to + row * tensor.rowStride * tensor.dtype.byteCount).copyMemory(
        from: from + row * rowBytes, byteCount: rowBytes)
    }
  }

  public func download(_ tensor: Tensor, to destination: UnsafeMutableRawBufferPointer) throws {
    assert(destination.count == tensor.byteCount)
    let rowBytes = tensor.columns * tensor.dtype.byteCount
    guard let to = destination.baseAddress, let from = tensor.pointer else { return }
    for row in 0..<tensor.rows {
      (to + row * rowBytes).copyMemory(
        from: from + row * tensor.rowStride * tensor.dtype.byteCount, byteCount: rowBytes)
    }
  }

  public func zero(_ tensor: Tensor) throws {
    guard let to = tensor.pointer else { return }
    if tensor.isDense {
      memset(to, 0, tensor.byteCount)
    } else {
      for row in 0..<tensor.rows {
        memset(to + row * tensor.rowStride * tensor.dtype.byteCount, 0, tensor.columns * tensor.dtype.byteCount)
      }
    }
  }

  public func copy(_ source: Tensor, to destination: Tensor) throws {
    assert(source.rows == destination.rows && source.columns == destination.columns)
    sl_copy(
      Int64(source.rows), Int64(source.columns), source.pointer, source.kernelType, source.stride,
      destination.pointer, destination.kernelType, destination.stride)
  }

  public func gather(_ source: Tensor, rows: [Int32], to destination: Tensor) throws {
    assert(source.dtype == destination.dtype && rows.count <= destination.rows)
    let width = source.columns * source.dtype.byteCount
    guard let from = source.pointer, let to = destination.pointer else { return }
    for (index, row) in rows.enumerated() {
      (to + index * destination.rowStride * source.dtype.byteCount).copyMemory(
        from: from + Int(row) * source.rowStride * source.dtype.byteCount, byteCount: width)
    }
  }

  public func scatter(_ source: Tensor, to destination: Tensor, rows: [Int32]) throws {
    assert(source.dtype == destination.dtype && rows.count <= source.rows)
    let width = source.columns * source.dtype.byteCount
    guard let from = source.pointer, let to = destination.pointer else { return }
    for (index, row) in rows.enumerated() {
      (to + Int(row) * destination.rowStride * source.dtype.byteCount).copyMemory(
        from: from + index * source.rowStride * source.dtype.byteCount, byteCount: width)
    }
  }

  public func synchronize() throws {}

  /// What an operation needs memory for that no caller keeps.
  enum Scratch { case dropped, sum }

  /// An fp32 matrix that lives until the next call for the same purpose.
  func scratchMatrix(_ purpose: Scratch, rows: Int, columns: Int) throws -> Tensor {
    let byteCount = rows * columns * 4
    let buffer: DeviceBuffer
    if let known = scratch[purpose], known.byteCount >= byteCount {
      buffer = known
    } else {
      scratch[purpose] = nil
      buffer = try allocate(byteCount: byteCount)
      scratch[purpose] = buffer
    }
    return Tensor(buffer, rows: rows, columns: columns, dtype: .float32)
  }
}

extension Tensor {
  /// The first element in host memory.
  var pointer: UnsafeMutableRawPointer? { UnsafeMutableRawPointer(bitPattern: address) }
  /// The first element as fp32.
  var floats: UnsafeMutablePointer<Float>? {
    assert(dtype == .float32)
    return UnsafeMutablePointer(bitPattern: address)
  }
  /// The row stride as the kernels take it.
  var stride: Int64 { Int64(rowStride) }
  /// The element type as the kernels take it.
  var kernelType: sl_dtype {
    assert(dtype == .float32 || dtype == .bfloat16)
    return dtype == .bfloat16 ? SL_BF16 : SL_F32
  }
}

extension CPUDevice {
  /// On the kernels' threads.
  public func concurrently(tasks: Int, _ body: @Sendable (Int) throws -> Void) throws {
    try parallel(tasks: tasks, body)
  }
}
