import Glibc
import JSONValues
import TestSupport
import Testing

@testable import ModelFiles

/// A file beside the tests in `Tests/Golden`.
func golden(_ name: String, _ file: StaticString = #filePath) -> String {
  var parts = "\(file)".split(separator: "/", omittingEmptySubsequences: false)
  parts.removeLast(2)
  return parts.joined(separator: "/") + "/Golden/" + name
}

/// The sample model, whose place the scripts set.
let sampleModel = getenv("SWIFTLET_SAMPLE_MODEL").map { String(cString: $0) }

/// Expects an error whose line holds a text and names the file.
func expectError(
  _ text: String, _ location: SourceLocation = #_sourceLocation, naming path: String? = nil, _ body: () throws -> Void
) {
  do {
    try body()
    Issue.record("no error was thrown, one with \"\(text)\" was expected", sourceLocation: location)
  } catch let error as ModelFileError {
    #expect(error.description.contains(text), sourceLocation: location)
    #expect(!error.description.contains("\n"), sourceLocation: location)
    if let path { #expect(error.path == path, sourceLocation: location) }
  } catch {
    Issue.record("\(error) is no ModelFileError", sourceLocation: location)
  }
}

/// A safetensors file of a header and data.
func safetensors(_ header: String, _ data: [UInt8] = []) -> [UInt8] {
  GGUFBuilder.bytes(UInt64(header.utf8.count)) + Array(header.utf8) + data
}

/// The bits of floats, so that NaN and the signs of zeros compare.
func bits(_ values: [Float]) -> [UInt32] { values.map(\.bitPattern) }
