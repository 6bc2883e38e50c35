import CPUDevice
import Tensors

#if canImport(Glibc)
  import Glibc
#endif

/// Runs every operation of a device, forward and backward, on random inputs, and compares with the definitions in double
/// precision and with the CPU device in fp32.
package struct SelfTest {
  /// One tensor against one reference.
  package struct Result: Sendable {
    /// The operation and its shape.
    package var name: String
    /// Which of its results.
    package var tensor: String
    /// "float64" or "CPU".
    package var reference: String
    /// ‖error‖ / ‖reference‖; not a number where the result is none.
    package var error: Double
    /// What the error may be.
    package var bound: Double
    /// Why there is no result.
    package var failure: String?
    /// Whether the result is right.
    package var passed: Bool { failure == nil && error <= bound }
  }

  private let device: any Device
  private let seed: UInt64
  private let large: Bool
  private let span: Int?

  /// A test of `device`; `large`: at the shapes of real models too; `span`: instead, of operations whose tensors reach over so
  /// many bytes.
  package init(_ device: any Device, seed: UInt64, large: Bool, span: Int? = nil) {
    self.device = device
    self.seed = seed
    self.large = large
    self.span = span
  }

  /// More than 2³¹ elements of four bytes.
  package static let farSpan = 1 << 33 + 1 << 20

  /// Runs the cases whose name contains `filter`, all without one; `report` sees each result as it is known.
  package func run(filter: String? = nil, report: (Result) throws -> Void) throws {
    let cpu = CPUDevice(compute: .float32)
    for (index, test) in Case.all(large: large).enumerated() where span == nil || test.goesFar {
      guard filter.map({ contains(test.name, $0) }) ?? true else { continue }
      let caseSeed = seed &+ UInt64(index) &* 0x9E37_79B9
      let trial = Trial(device, seed: caseSeed, span: span)
      do { try test.run(trial) } catch {
        try report(Result(name: test.name, tensor: "", reference: "", error: .nan, bound: 0, failure: "\(error)"))
        continue
      }
      let references: [(String, any Device)] =
        (test.isLarge ? [] : [("float64", ReferenceDevice())]) + (test.isInNF4 ? [] : [("CPU", cpu)])
      for (reference, referenceDevice) in references {
        let expected = Trial(referenceDevice, seed: caseSeed)
        try test.run(expected)
        for (output, right) in zip(trial.outputs, expected.outputs) {
          try report(
            Result(
              name: test.name, tensor: output.name, reference: reference, error: error(output.values, right.values),
              bound: output.bound))
        }
      }
    }
  }

  private func contains(_ text: String, _ part: String) -> Bool {
    strstr(text, part) != nil
  }

  /// ‖a - b‖ / ‖b‖, where b is not so small that only rounding makes it differ from zero.
  private func error(_ a: [Float], _ b: [Float]) -> Double {
    guard a.count == b.count else { return .nan }
    var (difference, norm) = (0.0, 0.0)
    for (x, y) in zip(a, b) {
      difference += (Double(x) - Double(y)) * (Double(x) - Double(y))
      norm += Double(y) * Double(y)
    }
    // Inputs are of the order of one: what is smaller than this on average is zero.
    let zero = 1e-8 * Double(max(b.count, 1))
    return (difference / max(norm, zero)).squareRoot()
  }
}
