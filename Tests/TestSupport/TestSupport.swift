// Shared helpers of the tests.

/// A file beside the tests in `Tests/Golden`.
public func goldenPath(_ name: String, _ file: StaticString = #filePath) -> String {
  var parts = "\(file)".split(separator: "/", omittingEmptySubsequences: false)
  parts.removeLast(2)
  return parts.joined(separator: "/") + "/Golden/" + name
}
