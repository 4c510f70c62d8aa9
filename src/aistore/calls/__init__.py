"""What each call sends and how its answer is read, without I/O: shared by the blocking and the asyncio face.

A call is a generator. It yields what it wants done, such as a `Request` (see `steps`), and is sent the result; the face that runs it raises
refusals of the server into it as the errors they mean. Reading and writing one object is too hot for that: `objects` has plain functions
for the requests, which the faces send themselves.
"""
