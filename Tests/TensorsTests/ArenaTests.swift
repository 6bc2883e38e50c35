import Tensors
import Testing

@Suite struct ArenaTests {
  @Test func reservationsLieApartAndScopesShare() {
    var plan = ArenaPlan()
    let kept = plan.reserve(rows: 3, columns: 5, .float32)
    #expect(kept.byteCount == 60)
    let afterKept = plan.byteCount
    #expect(afterKept >= 60 && afterKept % 256 == 0)
    plan.scope { plan in _ = plan.reserve(rows: 100, columns: 10, .bfloat16) }
    let first = plan.byteCount
    plan.scope { plan in _ = plan.reserve(rows: 50, columns: 10, .bfloat16) }
    #expect(plan.byteCount == first, "the second scope lies where the first one lay")
    _ = plan.reserve(rows: 1, columns: 1, .float32)
    #expect(plan.byteCount == first, "what comes after the scopes lies there too")
    _ = plan.reserve(rows: 1000, columns: 10, .bfloat16)
    #expect(plan.byteCount > first)
  }

  @Test func viewsShareTheirMemory() {
    let memory = UnsafeMutableRawPointer.allocate(byteCount: 400, alignment: 64)
    defer { memory.deallocate() }
    let buffer = DeviceBuffer(address: UInt(bitPattern: memory), byteCount: 400) { _ in }
    let matrix = Tensor(buffer, rows: 10, columns: 10, dtype: .float32)
    #expect(matrix.isDense && matrix.count == 100 && matrix.byteCount == 400)
    let rows = matrix.rows(2..<5)
    #expect(rows.rows == 3 && rows.address == matrix.address + 80 && rows.isDense)
    let columns = matrix.columns(4..<6)
    #expect(columns.columns == 2 && columns.address == matrix.address + 16 && !columns.isDense)
    #expect(columns.prefix(1).isDense, "one row has no gaps")
    let reshaped = rows.reshaped(rows: 5, columns: 6)
    #expect(reshaped.rowStride == 6 && reshaped.address == rows.address)
  }

  @Test func aBufferIsReleasedOnceWithItsLastTensor() {
    final class Count: @unchecked Sendable { var value = 0 }
    let count = Count()
    var tensor: Tensor? = Tensor(
      DeviceBuffer(address: 4096, byteCount: 16) { _ in count.value += 1 }, rows: 1, columns: 4, dtype: .float32)
    var slice = tensor?.columns(1..<2)
    tensor = nil
    #expect(count.value == 0 && slice != nil)
    slice = nil
    #expect(count.value == 1)
  }
}
