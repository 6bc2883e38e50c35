import CUDADriver
import Tensors

/// cuBLASLt's plans of matrix products, made at a shape's first use and kept.
///
/// A shape runs the heuristic's first choice: the same on every start, so that runs repeat bit for bit.
final class ProductPlans {
  private let library: UnsafePointer<sl_cublaslt>
  private let handle: UnsafeMutableRawPointer
  private let context: CUDAContext
  private let workspace: DeviceBuffer
  private var plans: [Key: OpaquePointer?] = [:]

  /// Bytes that products may work in: what cuBLAS recommends for Hopper.
  static let workspaceBytes = 64 << 20

  private struct Key: Hashable {
    var m, n, k, lda, ldb, ldc: Int
    var flags: Int32
  }

  /// nil where cuBLASLt was not found.
  init?(_ context: CUDAContext, _ libraries: CUDALibraries, workspace: DeviceBuffer) throws {
    guard let library = libraries.cublasLt else { return nil }
    var handle: UnsafeMutableRawPointer?
    let code = library.pointee.create(&handle)
    guard code == 0, let handle else { throw DeviceError("cuBLASLt does not start: error \(code)") }
    self.library = library
    self.handle = handle
    self.context = context
    self.workspace = workspace
  }

  deinit {
    context.enterForRelease()
    for case let plan? in plans.values { sl_destroy_plan(library, plan) }
    _ = library.pointee.destroy(handle)
  }

  /// c = op(a) · op(b), or added to c; false where the library has no algorithm for the shape.
  func multiply(
    _ a: Tensor, _ transposeA: Bool, _ b: Tensor, _ transposeB: Bool, into c: Tensor, accumulate: Bool
  ) throws -> Bool {
    let k = transposeA ? a.rows : a.columns
    let alignments = (alignment(a), alignment(b), alignment(c))
    let flags: Int32 =
      (transposeA ? 1 : 0) | (transposeB ? 2 : 0) | (c.dtype == .float32 ? 4 : 0) | (accumulate ? 8 : 0)
      | alignments.0 << 4 | alignments.1 << 13 | alignments.2 << 22
    let key = Key(
      m: c.rows, n: c.columns, k: k, lda: a.rowStride, ldb: b.rowStride, ldc: c.rowStride, flags: flags)
    let plan: OpaquePointer?
    if let known = plans[key] {
      plan = known
    } else {
      var product = sl_product(
        m: Int64(c.rows), n: Int64(c.columns), k: Int64(k), lda: Int64(a.rowStride), ldb: Int64(b.rowStride),
        ldc: Int64(c.rowStride), transposeA: transposeA ? 1 : 0, transposeB: transposeB ? 1 : 0,
        floatC: c.dtype == .float32 ? 1 : 0, accumulate: accumulate ? 1 : 0, alignmentA: alignments.0,
        alignmentB: alignments.1, alignmentC: alignments.2)
      var count: Int32 = 0
      var made: OpaquePointer?
      // An error here is the library's way to say that it knows no algorithm.
      _ = sl_plan_products(library, handle, &product, workspace.byteCount, 1, &made, &count)
      plan = count > 0 ? made : nil
      plans[key] = .some(plan)
    }
    guard let plan else { return false }
    let code = sl_run_plan(
      library, handle, plan, UInt64(a.address), UInt64(b.address), UInt64(c.address), UInt64(workspace.address),
      workspace.byteCount, context.stream)
    guard code == 0 else {
      throw DeviceError("cuBLASLt: a product of \(c.rows) × \(k) × \(c.columns) failed with error \(code)")
    }
    return true
  }

  /// The power of two up to 256 that the address is a multiple of.
  private func alignment(_ tensor: Tensor) -> Int32 {
    Int32(1 << min(8, (tensor.address | 256).trailingZeroBitCount))
  }
}
