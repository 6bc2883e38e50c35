import Glibc

/// Writes a file so that its name shows either the old file or the whole new one, whatever happens in between.
///
/// The bytes go to a hidden file beside it. `commit()` brings them to the disk and renames; without it nothing of the
/// new file stays. What a killed process left is overwritten by the next one that writes the same file.
public final class AtomicFileWriter {
  /// The file that is written.
  public let path: String
  private let temporary: String
  private var descriptor: Int32
  private var position = 0

  /// Opens the hidden file; `expectedByteCount` is compared with the free space first.
  public init(path: String, expectedByteCount: Int = 0) throws(ModelFileError) {
    let (folder, name) = split(path)
    if name.isEmpty || name == "." || name == ".." { throw ModelFileError(path, "this is no name for a file") }
    self.path = path
    temporary = "\(folder)/.\(name).incomplete"
    try checkFreeSpace(in: folder, for: path, byteCount: expectedByteCount)
    descriptor = try openLocked(temporary, for: path)
  }

  deinit { discard() }

  /// Appends bytes.
  public func write(_ bytes: UnsafeRawBufferPointer) throws(ModelFileError) {
    try write(bytes, at: position)
    position += bytes.count
  }

  /// Appends bytes.
  public func write(_ bytes: [UInt8]) throws(ModelFileError) {
    let result = bytes.withUnsafeBytes { bytes in Result { () throws(ModelFileError) in try write(bytes) } }
    try result.get()
  }

  /// Appends text as UTF-8.
  public func write(_ text: String) throws(ModelFileError) { try write(Array(text.utf8)) }

  /// Writes bytes at a place of the file, without moving the end where the next bytes are appended.
  func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(ModelFileError) {
    guard descriptor >= 0 else { throw ModelFileError(path, "this file is already written") }
    guard let base = bytes.baseAddress else { return }
    var done = 0
    while done < bytes.count {
      let count = pwrite(descriptor, base + done, min(bytes.count - done, 1 << 30), off_t(offset + done))
      if count < 0 {
        if errno == EINTR { continue }
        let error = ModelFileError.system(path, "write")
        discard()
        throw error
      }
      done += count
    }
  }

  /// Makes the file this long; what is not written of it is zeros.
  func extend(to byteCount: Int) throws(ModelFileError) {
    guard descriptor >= 0 else { throw ModelFileError(path, "this file is already written") }
    guard ftruncate(descriptor, off_t(byteCount)) == 0 else {
      let error = ModelFileError.system(path, "write")
      discard()
      throw error
    }
  }

  /// Brings the file to the disk and gives it its name.
  public func commit() throws(ModelFileError) {
    guard descriptor >= 0 else { throw ModelFileError(path, "this file is already written") }
    guard fsync(descriptor) == 0, rename(temporary, path) == 0 else {
      let error = ModelFileError.system(path, "write")
      discard()
      throw error
    }
    close(descriptor)
    descriptor = -1
    try synchronizeFolder(split(path).folder)
  }

  /// Removes what was written so far.
  private func discard() {
    guard descriptor >= 0 else { return }
    unlink(temporary)
    close(descriptor)
    descriptor = -1
  }
}

/// Writes a whole file so that its name shows either the old file or the new one.
public func writeAtomically(_ bytes: UnsafeRawBufferPointer, to path: String) throws(ModelFileError) {
  let writer = try AtomicFileWriter(path: path, expectedByteCount: bytes.count)
  try writer.write(bytes)
  try writer.commit()
}

/// Writes a whole file so that its name shows either the old file or the new one.
public func writeAtomically(_ bytes: [UInt8], to path: String) throws(ModelFileError) {
  let writer = try AtomicFileWriter(path: path, expectedByteCount: bytes.count)
  try writer.write(bytes)
  try writer.commit()
}

/// Writes a text as UTF-8 so that its name shows either the old file or the new one.
public func writeAtomically(_ text: String, to path: String) throws(ModelFileError) {
  try writeAtomically(Array(text.utf8), to: path)
}

/// Writes files into a folder that is there, making the folders within it that their names go through.
public func writeAtomically(_ files: [(name: String, bytes: [UInt8])], into folder: String) throws(ModelFileError) {
  for (name, bytes) in files {
    var path = folder
    for part in name.split(separator: "/").dropLast() {
      path += "/" + part
      if mkdir(path, 0o777) != 0, errno != EEXIST { throw .system(path, "make the folder") }
    }
    try writeAtomically(bytes, to: folder + "/" + name)
  }
}

/// Brings the names in a folder to the disk.
public func synchronizeFolder(_ path: String) throws(ModelFileError) {
  let descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
  if descriptor < 0 { throw .system(path, "open") }
  defer { close(descriptor) }
  // Some file systems cannot synchronize a folder and say EINVAL.
  if fsync(descriptor) != 0, errno != EINVAL { throw .system(path, "write") }
}

/// Refuses with one clear line when a folder's disk has less free space than a file needs.
public func checkFreeSpace(in folder: String, for path: String, byteCount: Int) throws(ModelFileError) {
  guard byteCount > 0, let free = freeSpace(in: folder), byteCount > free else { return }
  throw ModelFileError(
    path,
    "the disk has too little space: \(megabytes(UInt64(byteCount))) MB are needed, \(megabytes(UInt64(free))) MB are free"
  )
}

/// Bytes that a folder's disk has free for this user; nil where the file system does not say.
public func freeSpace(in folder: String) -> Int? {
  var status = statvfs()
  guard statvfs(folder, &status) == 0 else { return nil }
  let (free, overflow) = UInt64(status.f_bavail).multipliedReportingOverflow(by: UInt64(status.f_frsize))
  // Some file systems report no size at all.
  return overflow || status.f_blocks == 0 ? nil : Int(clamping: free)
}

private func megabytes(_ count: UInt64) -> UInt64 { count / 1_000_000 + (count % 1_000_000 == 0 ? 0 : 1) }

/// The folder and the name of a path.
func split(_ path: String) -> (folder: String, name: String) {
  guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return (".", path) }
  let folder = String(path[..<slash])
  return (folder.isEmpty ? "/" : folder, String(path[path.utf8.index(after: slash)...]))
}

/// Opens and locks the hidden file, so that two processes never write the same one.
private func openLocked(_ temporary: String, for path: String) throws(ModelFileError) -> Int32 {
  while true {
    let descriptor = open(temporary, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0o666)
    if descriptor < 0 { throw .system(path, "write") }
    if flock(descriptor, LOCK_EX | LOCK_NB) != 0 {
      let code = errno
      close(descriptor)
      if code == EWOULDBLOCK { throw ModelFileError(path, "another process is writing this file") }
      throw .system(path, "write", code)
    }
    // Whoever held the lock before may have renamed the file meanwhile; then this is no longer the hidden one.
    var (opened, named) = (stat(), stat())
    if fstat(descriptor, &opened) == 0, lstat(temporary, &named) == 0, opened.st_ino == named.st_ino {
      if ftruncate(descriptor, 0) == 0 { return descriptor }
      let error = ModelFileError.system(path, "write")
      close(descriptor)
      throw error
    }
    close(descriptor)
  }
}
