import CommandLineParsing
import JSONValues
import SelfTest
import Swiftlet

/// `swiftlet selftest`: every operation of a device against its definition.
enum SelfTestCommand: RunnableCommand {
  private static let seed = Option<UInt64?>("seed", "N", "Seed of the inputs; drawn anew each time when not given.")
  private static let filter = Option<String?>("filter", "TEXT", "Only the cases whose name contains TEXT.")
  private static let small = Option(flag: "small", "Leave out the shapes of real models.")
  private static let far = Option(
    flag: "far", "Instead, operations on tensors that reach past 2³¹ elements of four bytes; takes 11 GB of the device."
  )
  private static let verbose = Option(flag: "verbose", "Print results that are right, too.")

  static let command = Command(
    name: "selftest", summary: "Check every operation of a device against its definition.",
    examples: ["--device cuda", "--device cpu --filter attention --verbose"],
    options: [
      seed.declaration, filter.declaration, small.declaration, far.declaration, verbose.declaration,
      JSONOption.json.declaration,
    ] + ModelOptions.machine)

  static func run(_ arguments: ParsedArguments) throws {
    let device = try DeviceSelection.device(
      arguments[ModelOptions.device], compute: arguments[ModelOptions.compute],
      threads: arguments[ModelOptions.threads], note: { StandardError.write("swiftlet: \($0)\n") })
    let seed = arguments[Self.seed] ?? UInt64.random(in: 0..<1 << 53)
    let asJSON = arguments[JSONOption.json]
    StandardError.write("swiftlet: testing \(device.description), seed \(seed)\n")
    var (count, wrong, highest) = (0, 0, 0.0)
    try SelfTest(
      device, seed: seed, large: !arguments[small] && !arguments[far], span: arguments[far] ? SelfTest.farSpan : nil
    ).run(filter: arguments[filter]) { result in
      count += 1
      if !result.passed { wrong += 1 }
      if result.bound > 0, result.error.isFinite { highest = max(highest, result.error / result.bound) }
      if asJSON {
        try StandardOutput.write(JSONValue.object(json(result)).serialized() + "\n")
      } else if !result.passed || arguments[verbose] {
        try StandardOutput.write(text(result))
      }
    }
    StandardError.write(
      "swiftlet: \(count) results, \(wrong) wrong, the largest error at \(Formatting.fixed(highest * 100, 0))% of its bound\n"
    )
    if wrong > 0 || count == 0 { throw Failure(count: count, wrong: wrong) }
  }

  private struct Failure: Error, CustomStringConvertible {
    var count: Int
    var wrong: Int
    var description: String {
      count == 0 ? "no case has that name" : "\(wrong) of \(count) results are wrong"
    }
  }

  private static func json(_ result: SelfTest.Result) -> JSONObject {
    var object: JSONObject = [
      "case": .string(result.name), "tensor": .string(result.tensor), "reference": .string(result.reference),
      "error": result.error.isFinite ? .number(result.error) : .null, "bound": .number(result.bound),
      "passed": .bool(result.passed),
    ]
    object["failure"] = result.failure.map { .string($0) }
    return object
  }

  private static func text(_ result: SelfTest.Result) -> String {
    let verdict = result.passed ? "right" : "WRONG"
    if let failure = result.failure { return "\(verdict)  \(result.name): \(failure)\n" }
    return
      "\(verdict)  \(result.name): \(result.tensor) off by \(result.error) of \(result.bound) against \(result.reference)\n"
  }
}
