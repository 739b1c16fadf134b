package faultnet

// Direction names one or both of a connection's directions.
type Direction uint8

// The directions, seen from the relay.
const (
	ToTarget Direction = 1 << iota // what clients send
	ToClient                       // what the target answers
	Both     = ToTarget | ToClient
)

// String returns "to_target", "to_client" or "both".
func (d Direction) String() string {
	switch d {
	case ToTarget:
		return "to_target"
	case ToClient:
		return "to_client"
	case Both:
		return "both"
	}
	return "invalid"
}
