import Foundation
import Testing

/// What a run of the built program left behind.
struct ProgramResult {
  var status: Int32
  var output: String
  var errors: String

  /// The one line of an error, without the prefix; nil when standard error is anything else.
  var message: String? {
    let prefix = "swiftlet: error: "
    guard errors.hasPrefix(prefix), errors.hasSuffix("\n"), errors.filter(\.isNewline).count == 1 else { return nil }
    return String(errors.dropFirst(prefix.count).dropLast())
  }
}

/// The program that the test run built, beside the test bundle; nil where it was not built.
let swiftletPath: String? = {
  let path = URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()
    .appendingPathComponent("swiftlet").path
  return FileManager.default.isExecutableFile(atPath: path) ? path : nil
}()

/// Runs `swiftlet`; every word goes to it as it stands.
func swiftlet(_ words: [String], input: String = "") throws -> ProgramResult {
  try run(try #require(swiftletPath), words, input: input)
}

/// Runs a line as a shell reads it.
func shell(_ line: String) throws -> ProgramResult { try run("/bin/sh", ["-c", line], input: "") }

private func run(_ path: String, _ words: [String], input: String) throws -> ProgramResult {
  let process = Process()
  process.executableURL = URL(fileURLWithPath: path)
  process.arguments = words
  let (standardInput, output, errors) = (Pipe(), Pipe(), Pipe())
  (process.standardInput, process.standardOutput, process.standardError) = (standardInput, output, errors)
  // Read beside the run: a full pipe would stop it.
  let collected = Collected()
  let group = DispatchGroup()
  DispatchQueue.global().async(group: group) { collected.errors = errors.fileHandleForReading.readDataToEndOfFile() }
  DispatchQueue.global().async(group: group) { collected.output = output.fileHandleForReading.readDataToEndOfFile() }
  try process.run()
  try standardInput.fileHandleForWriting.write(contentsOf: Data(input.utf8))
  try standardInput.fileHandleForWriting.close()
  process.waitUntilExit()
  group.wait()
  return ProgramResult(
    status: process.terminationStatus, output: String(decoding: collected.output, as: UTF8.self),
    errors: String(decoding: collected.errors, as: UTF8.self))
}

private final class Collected: @unchecked Sendable {
  var output = Data()
  var errors = Data()
}

/// Runs `body` with a folder of its own that is removed afterwards.
func withTemporaryFolder<Result>(_ body: (String) throws -> Result) throws -> Result {
  let folder = FileManager.default.temporaryDirectory.appendingPathComponent("swiftlet-" + UUID().uuidString)
  try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(at: folder) }
  return try body(folder.path)
}
